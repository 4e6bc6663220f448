from collections import Counter, deque

import pytest

from labkit.assets.fetch import ensure
from labkit.tasks.triage import read_terms, triage_rows

# Written out again, from the ontology's own names, so that a slip in labkit's list is seen.
ROOTS = {
    "Abnormality of the cardiovascular system": "cardiology",
    "Abnormality of the integument": "dermatology",
    "Abnormality of the endocrine system": "endocrinology",
    "Abnormality of the digestive system": "gastroenterology",
    "Abnormality of blood and blood-forming tissues": "hematology",
    "Abnormality of the immune system": "immunology",
    "Abnormality of the urinary system": "urology",
    "Abnormality of the nervous system": "neurology",
    "Abnormality of the eye": "ophthalmology",
    "Abnormality of the musculoskeletal system": "orthopedics",
    "Abnormality of the ear": "otology",
    "Abnormality of the respiratory system": "pulmonology",
}
ELSEWHERE = (
    "Abnormality of metabolism/homeostasis",
    "Abnormality of head or neck",
    "Abnormality of limbs",
    "Growth abnormality",
    "Abnormality of prenatal development or birth",
    "Neoplasm",
    "Abnormality of the genital system",
    "Abnormality of the breast",
    "Atypical behavior",
)

TINY = """format-version: 1.2

[Term]
id: HP:0001626
name: Abnormality of the cardiovascular system
def: "Any abnormality of the cardiovascular system." [HPO:x]

[Term]
id: HP:0000707
name: Abnormality of the nervous system

[Term]
id: HP:0000769
name: Abnormality of the breast

[Term]
id: HP:0002664
name: Neoplasm

{terms}
[Typedef]
id: part_of
name: part of
"""
DEFINITION = "A finding that has a definition."


@pytest.fixture(scope="module")
def obo():
    return ensure("hpo") / "hp.obo"


@pytest.fixture(scope="module")
def stanzas(obo):
    """The ontology as a list of (key, value) lines for each id, read line by line."""
    found, lines = {}, None
    with obo.open(encoding="utf-8") as stream:
        for line in map(str.rstrip, stream):
            if line.startswith("["):
                lines = [] if line == "[Term]" else None
            elif lines is not None and ": " in line:
                key, value = line.split(": ", 1)
                if key == "id":
                    found[value] = lines
                lines.append((key, value))
    return found


@pytest.fixture(scope="module")
def rows(obo):
    return triage_rows(obo)


def rows_of(tmp_path, *terms: str) -> list[dict]:
    path = tmp_path / "tiny.obo"
    path.write_text(TINY.format(terms="".join(f"[Term]\n{term}\n\n" for term in terms)), encoding="utf-8")
    return [row for row in triage_rows(path) if row["id"].startswith("X")]


def term(*parents: str, name="Finding", definition=DEFINITION, extra="") -> str:
    lines = ["id: X:1", f"name: {name}", f'def: "{definition}" [HPO:y]', *(f"is_a: {p} ! its name" for p in parents)]
    return "\n".join([*lines, extra]).strip()


HEART, NERVES, BREAST, TUMOUR = "HP:0001626", "HP:0000707", "HP:0000769", "HP:0002664"


def test_a_finding_under_one_department_becomes_a_row(tmp_path):
    assert rows_of(tmp_path, term(HEART)) == [{"id": "X:1", "text": DEFINITION, "label": "cardiology"}]


def test_a_department_counts_through_any_number_of_parents(tmp_path):
    middle = term("X:3").replace("X:1", "X:2")
    top = term(NERVES).replace("X:1", "X:3")
    assert {row["label"] for row in rows_of(tmp_path, term("X:2"), middle, top)} == {"neurology"}


@pytest.mark.parametrize("parents", [(HEART, NERVES), (HEART, TUMOUR), (HEART, BREAST), (TUMOUR,), ()])
def test_a_finding_without_one_answer_is_left_out(tmp_path, parents):
    assert rows_of(tmp_path, term(*parents)) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"extra": "is_obsolete: true"},
        {"definition": "Too short."},
        {"definition": "Much too long. " * 30},
        {"name": "Sexual precocity"},
        {"definition": "Swelling of the breast on one side."},
        {"definition": "Pain in the PENIS while walking."},
    ],
)
def test_an_unfit_finding_is_left_out(tmp_path, changes):
    assert rows_of(tmp_path, term(HEART, **changes)) == []


@pytest.mark.parametrize(
    ("written", "meant"),
    [(r"\"boot\"", '"boot"'), (r"a\: b\, c", "a: b, c"), (r"one\ntwo", "one\ntwo"), (r"\\n", r"\n")],
)
def test_escapes_are_read_as_the_format_says(tmp_path, written, meant):
    row = rows_of(tmp_path, term(HEART, definition=f"The heart has {written} in its definition."))[0]
    assert row["text"] == f"The heart has {meant} in its definition."


def test_a_term_without_definition_is_read_and_left_out(tmp_path):
    bare = f"id: X:1\nname: Finding\nis_a: {HEART} ! heart"
    assert rows_of(tmp_path, bare) == []


def test_every_live_term_is_read(obo, stanzas):
    live = {name for name, lines in stanzas.items() if ("is_obsolete", "true") not in lines}
    assert set(read_terms(obo)) == live
    assert len(live) > 18_000


def test_each_row_is_below_exactly_the_department_it_names(stanzas, rows):
    names = {name: dict(lines)["name"] for name, lines in stanzas.items()}
    for root in (*ROOTS, *ELSEWHERE):
        assert root in names.values()
    for row in rows:
        above, queue = set(), deque([row["id"]])
        while queue:
            current = queue.popleft()
            above.add(names[current])
            queue.extend(value.split(" ! ")[0] for key, value in stanzas[current] if key == "is_a")
        assert [ROOTS[name] for name in ROOTS if name in above] == [row["label"]]
        assert not above.intersection(ELSEWHERE)


def test_every_definition_stands_unaltered_in_the_ontology(stanzas, rows):
    for row in rows:
        quoted = dict(stanzas[row["id"]])["def"].rsplit('" [', 1)[0].removeprefix('"')
        for escaped, meant in (('\\"', '"'), ("\\n", "\n"), ("\\:", ":"), ("\\,", ",")):
            quoted = quoted.replace(escaped, meant)
        assert row["text"] == quoted.strip()


def test_no_row_speaks_of_private_matters(stanzas, rows):
    for row in rows:
        words = f"{dict(stanzas[row['id']])['name']} {row['text']}".lower()
        assert not any(
            word in words for word in ("sexual", "penis", "vagina", "breast", "suicid", "genital", "scrotum")
        )


def test_there_are_twelve_departments_of_at_least_a_hundred_findings(rows):
    counts = Counter(row["label"] for row in rows)
    assert set(counts) == set(ROOTS.values())
    assert min(counts.values()) >= 100
    assert len({row["id"] for row in rows}) == len(rows)
