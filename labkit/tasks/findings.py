"""What the instruction task asks about: findings of the Human Phenotype Ontology, and questions to be refused.

The ontology is read at run time, as for triage (see there for its licence). The questions are in
``data/out_of_scope.jsonl``.
"""

from __future__ import annotations

import json
import random
from functools import cache as memoize
from pathlib import Path

from labkit.assets.fetch import ensure
from labkit.tasks.row import key_of
from labkit.tasks.triage import PRIVATE_WORDS, read_terms, triage_rows

WORDS = 5  # longer names, such as those of single bones, are descriptions
STEM, SMALL = 5, 3  # words are compared by so many letters; words as short as "of" aren't


@memoize
def findings(questions: Path) -> list[dict]:
    """Return what conversations are made of: one row for each finding or question, with its kind as ``label``."""
    path = ensure("hpo") / "hp.obo"
    terms, rows = read_terms(path), []
    taken: set[str] = set()
    for number, row in enumerate(sorted(triage_rows(path), key=lambda row: random.Random(row["id"]).random())):
        name, synonyms = terms[row["id"]]["name"], terms[row["id"]]["synonyms"]
        exact = [text for text, scope, kind in synonyms if scope == "EXACT" and kind != "obsolete_synonym"]
        known = list(dict.fromkeys([name, *exact]))  # some repeat the name
        plain = sorted({text for text, scope, kind in synonyms if (scope, kind) == ("EXACT", "layperson")}, key=len)
        keys = {key_of(text) for text in known}
        # An answer that fits two findings would be learned with one and asked with the other.
        if PRIVATE_WORDS.search(" ".join(known)) or keys & taken or len(name.split()) > WORDS:
            continue
        taken |= keys
        if plain and key_of(name) not in map(key_of, plain) and len(plain[0].split()) <= WORDS:
            kind = "plain"
        else:
            kind = "name" if number % 2 and _is_told(name, row["text"]) else "route"
        right = {"route": [row["label"]], "name": known, "plain": plain}[kind]
        texts = {"texts": (name, row["text"]), "definition": row["text"], "name": name, "department": row["label"]}
        rows.append({"id": row["id"], "text": f"{name} {row['text']}", "label": kind, "right": right} | texts)
    for line in questions.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        texts = {"text": row["question"], "texts": (row["question"],), "department": row["topic"]}
        rows.append({"id": row["id"], "label": "refuse", "right": [""]} | texts)
    return rows


def _is_told(answer: str, text: str) -> bool:
    """Return whether the words of an answer are in a text, but for endings: a model that reads can find it."""
    told = {word[:STEM] for word in key_of(text).split()}
    return told.issuperset(word[:STEM] for word in key_of(answer).split() if len(word) > SMALL)
