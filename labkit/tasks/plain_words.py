"""Findings that people call one thing and doctors another: what the pairs of the task ``preferences`` are made of.

The Human Phenotype Ontology marks those synonyms that its curators take for a layperson's. The ontology is read at run
time, as for triage (see there for its licence).
"""

from __future__ import annotations

from collections import Counter
from functools import cache as memoize
from typing import NamedTuple

from transformers import AutoTokenizer

from labkit.assets.fetch import ensure
from labkit.tasks.row import key_of
from labkit.tasks.triage import PRIVATE_BRANCHES, PRIVATE_WORDS, ancestors, read_terms

WORDS, CHARACTERS = 6, 300  # the longest name and definition: longer ones are descriptions of single bones
OFTEN = 4  # a word is jargon if it is more than so many times as frequent in doctors' names as in everybody's
READER = "smollm2-135m"  # in whose tokens lengths are balanced
NO_PLAIN, UNSUITED = "no layperson synonym", "no plain words beside a name in jargon, or unsuitable for a classroom"


class Wording(NamedTuple):
    """A finding in plain words and in jargon, and by how much the plain words are longer."""

    plain: str
    jargon: str
    characters: int
    tokens: int


class Finding(NamedTuple):
    """A term of the ontology with all its wordings."""

    id: str
    name: str
    definition: str
    wordings: tuple[Wording, ...]


@memoize
def plain_words() -> tuple[list[Finding], dict[str, int]]:
    """Return the findings that have both plain words and a name in jargon, and how many terms were left out and why.

    Plain words are a layperson's exact synonym without a word of jargon; the other name has such a word.
    """
    terms = read_terms(ensure("hpo") / "hp.obo")
    above, lay, clinical = ancestors(terms), {}, {}
    for term, row in terms.items():
        exact = [(text, kind) for text, scope, kind in row["synonyms"] if scope == "EXACT"]
        lay[term] = [text for text, kind in exact if kind == "layperson"]
        known = dict.fromkeys([row["name"], *(text for text, kind in exact if not kind)])
        clinical[term] = [text for text in known if text not in lay[term]]
    usual, special = (Counter(word for texts in side.values() for word in _words(texts)) for side in (lay, clinical))

    def is_jargon(text: str) -> bool:
        return any(special[word] > OFTEN * usual[word] for word in _words([text]) if len(word) > 3 and word.isalpha())

    found, left_out = [], Counter[str]()
    for term, row in terms.items():
        plain, jargon = (
            [text for text in texts[term] if len(text.split()) <= WORDS and is_jargon(text) == wanted]
            for texts, wanted in ((lay, False), (clinical, True))
        )
        read = " ".join([row["name"], row["definition"], *lay[term], *clinical[term]])
        private = above[term].intersection(PRIVATE_BRANCHES) or PRIVATE_WORDS.search(read)
        if not lay[term]:
            left_out[NO_PLAIN] += 1
        elif not plain or not jargon or private or not 20 <= len(row["definition"]) <= CHARACTERS:
            left_out[UNSUITED] += 1
        else:
            found.append((term, row, plain, jargon))
    tokens = _token_counts([text for *_, plain, jargon in found for text in plain + jargon])
    findings = []
    for term, row, plain, jargon in found:
        wordings = [Wording(a, b, len(a) - len(b), tokens[a] - tokens[b]) for a in plain for b in jargon]
        findings.append(Finding(term, row["name"], row["definition"], tuple(wordings)))
    return findings, dict(left_out)


def _words(texts: list[str]) -> set[str]:
    return {word for text in texts for word in key_of(text).split()}


def _token_counts(texts: list[str]) -> dict[str, int]:
    tokenizer = AutoTokenizer.from_pretrained(ensure(READER), local_files_only=True)
    texts = list(dict.fromkeys(texts))
    ids = tokenizer([f": {text}." for text in texts], add_special_tokens=False)["input_ids"]  # as replies hold them
    return {text: len(row) for text, row in zip(texts, ids, strict=True)}
