"""The triage task: from the definition of a medical finding to the hospital department it belongs to.

Built at run time from the Human Phenotype Ontology, whose licence asks users to cite its version
and to show it unaltered. It is an exercise in fine-tuning, not medical advice.
"""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

# HPO's organ systems, as the departments that treat them.
DEPARTMENTS = {
    "HP:0001626": "cardiology",
    "HP:0001574": "dermatology",
    "HP:0000818": "endocrinology",
    "HP:0025031": "gastroenterology",
    "HP:0001871": "hematology",
    "HP:0002715": "immunology",
    "HP:0000079": "urology",
    "HP:0000707": "neurology",
    "HP:0000478": "ophthalmology",
    "HP:0033127": "orthopedics",
    "HP:0000598": "otology",
    "HP:0002086": "pulmonology",
}
# A finding that is also under another organ system has no single right answer.
OTHER_SYSTEMS = ("HP:0001939", "HP:0000152", "HP:0040064", "HP:0001507", "HP:0001197", "HP:0002664")
# Unsuitable for a classroom: the genital system, the breast, behaviour, and findings that mention such matters.
PRIVATE_BRANCHES = ("HP:0000078", "HP:0000769", "HP:0000708")
PRIVATE_WORDS = re.compile(
    r"sex|genital|penis|penile|vagin|vulv|testic|testis|scrot|erecti|ejacul|breast|nipple|menstr|suicid"
    r"|anus|anal\b|rectal|rectum|pubic|puberty|libido|orgasm|masturb|abortion|incest|labia|circumcis|sperm",
    re.IGNORECASE,
)
OBO_ESCAPES = {"n": "\n", "t": "\t", "W": " "}  # any other escaped character stands for itself
SYNONYM = re.compile(r'"((?:[^"\\]|\\.)*)" (\w+) ?([\w:]*) ?\[')
MAX_CHARACTERS = 400  # 95% of the definitions; the few longer ones would slow down every step that has one


def read_terms(path: Path) -> dict[str, dict]:
    """Read an OBO file into ``{id: {"name", "definition", "parents", "synonyms"}}``, without obsolete terms.

    A synonym is its text, its scope (such as ``EXACT``) and its type (such as ``layperson``, or empty).
    """
    terms = {}
    for stanza in path.read_text(encoding="utf-8").split("\n\n"):
        if not stanza.startswith("[Term]") or "\nis_obsolete: true" in stanza:
            continue
        fields = defaultdict(list)
        for line in stanza.splitlines()[1:]:
            key, _, value = line.partition(": ")
            fields[key].append(value)
        definition = re.match(r'"((?:[^"\\]|\\.)*)"', "".join(fields["def"]))
        terms[fields["id"][0]] = {
            "name": fields["name"][0],
            "definition": _unescape(definition[1]).strip() if definition else "",
            "synonyms": [
                (_unescape(found[1]), found[2], found[3]) for found in map(SYNONYM.match, fields["synonym"]) if found
            ],
            "parents": [value.split(" ")[0] for value in fields["is_a"]],
        }
    return terms


def _unescape(value: str) -> str:
    return re.sub(r"\\(.)", lambda found: OBO_ESCAPES.get(found[1], found[1]), value)


def ancestors(terms: dict[str, dict]) -> dict[str, set[str]]:
    """Return, for each term, its own id and those of all terms above it."""
    known: dict[str, set[str]] = {}

    def climb(term: str) -> set[str]:
        if term not in known:
            known[term] = {term}.union(*(climb(parent) for parent in terms[term]["parents"]))
        return known[term]

    return {term: climb(term) for term in terms}


def triage_rows(path: Path) -> list[dict]:
    """Return one row for each definition that belongs to exactly one department."""
    terms = read_terms(path)
    rows = []
    for term, above in ancestors(terms).items():
        departments = [name for root, name in DEPARTMENTS.items() if root in above]
        text, name = terms[term]["definition"], terms[term]["name"]
        if (
            len(departments) == 1
            and not above.intersection(OTHER_SYSTEMS + PRIVATE_BRANCHES)
            and 20 <= len(text) <= MAX_CHARACTERS
            and not PRIVATE_WORDS.search(f"{name} {text}")
        ):
            rows.append({"id": term, "text": text, "label": departments[0]})
    return rows
