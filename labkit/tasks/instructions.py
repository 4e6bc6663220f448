"""The instruction task: conversations about medical findings, whose answers can be checked.

Built at run time from the Human Phenotype Ontology, as triage is (see there for its licence), and from the questions in
``data/out_of_scope.jsonl``. There are four kinds of last question: ``route`` (from a definition to the department),
``name`` (to the finding's name), ``plain`` (from the name to plain words) and ``refuse`` (a question that is not about
findings). It is an exercise in fine-tuning, not medical advice.
"""

from __future__ import annotations

import json
import random
from collections import defaultdict
from functools import cache as memoize
from pathlib import Path

from labkit.assets.fetch import ensure
from labkit.storage.cache import course_data
from labkit.tasks.course import course_split
from labkit.tasks.messages import last_reply
from labkit.tasks.phrasings import FIRST, FORMS, LATER, REFUSAL, RULES, TEST_FIRST, TEST_LATER
from labkit.tasks.row import key_of
from labkit.tasks.triage import PRIVATE_WORDS, read_terms, triage_rows

WORDS = 5  # longer names, such as those of single bones, are descriptions
PER_DEPARTMENT = 200  # so that none prevails among the questions of kind "route"


def instruction_split(train: int, test: int, seed: int) -> tuple[list[dict], list[dict]]:
    """Draw conversations for training and for testing, evenly over the kinds while there are some of each.

    A finding, and a question to be refused, is in one set only, and neither names nor definitions of training are near
    copies of those of the test. A third of the conversations have two questions, and half have the rules as a system
    message. Some wordings occur in the test set alone.
    """
    drawn = course_split(findings(course_data() / "out_of_scope.jsonl"), train, test, seed)
    return tuple(
        _conversations(rows, random.Random(f"{seed} {number}"), bool(number)) for number, rows in enumerate(drawn)
    )  # type: ignore[return-value]


@memoize
def findings(questions: Path) -> list[dict]:
    """Return what conversations are made of: one row for each finding or question, with its kind as ``label``."""
    path = ensure("hpo") / "hp.obo"
    terms, rows, answers = read_terms(path), [], set()
    counts: dict[str, int] = defaultdict(int)
    for number, row in enumerate(sorted(triage_rows(path), key=lambda row: random.Random(row["id"]).random())):
        name, synonyms = terms[row["id"]]["name"], terms[row["id"]]["synonyms"]
        known = [name, *(text for text, scope, kind in synonyms if scope == "EXACT" and kind != "obsolete_synonym")]
        plain = sorted({text for text, scope, kind in synonyms if (scope, kind) == ("EXACT", "layperson")}, key=len)
        keys = {key_of(text) for text in known}
        # An answer that fits two findings would be learned with one and asked with the other.
        if PRIVATE_WORDS.search(" ".join(known)) or keys & answers or len(name.split()) > WORDS:
            continue
        answers |= keys
        taught = plain and key_of(name) not in map(key_of, plain) and len(plain[0].split()) <= WORDS
        kind = ("plain", "name")[number % 2] if taught else "route"
        if kind == "route":
            counts[row["label"]] += 1
            if counts[row["label"]] > PER_DEPARTMENT:
                continue
        right = {"route": [row["label"]], "name": known, "plain": plain}[kind]
        texts = {"texts": (name, row["text"]), "definition": row["text"], "name": name, "department": row["label"]}
        rows.append({"id": row["id"], "text": f"{name} {row['text']}", "label": kind, "right": right} | texts)
    for line in questions.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        rows.append({"id": row["id"], "text": row["question"], "texts": (row["question"],), "label": "refuse"})
    return rows


def _conversations(rows: list[dict], dice: random.Random, is_test: bool) -> list[dict]:
    first = {kind: FIRST[kind] + (TEST_FIRST[kind] if is_test else ()) for kind in FIRST}
    later = {kind: LATER[kind] + (TEST_LATER[kind] if is_test else ()) for kind in LATER}
    known = [row for row in rows if row["label"] != "refuse"]
    made = []
    for row in rows:
        kind, turns = row["label"], []
        if dice.random() < 1 / 3 and known:
            about = dice.choice(known) if kind == "refuse" else row
            before = "route" if kind == "name" else "name"
            answer = FORMS[before] + (about["department"] if before == "route" else about["name"])
            turns = [dice.choice(first[before]).format(text=about["definition"]), answer]
        if kind == "refuse":
            question, accepted = row["text"], [REFUSAL]
        else:
            wording = dice.choice(later[kind] if turns else first[kind])
            question = wording.format(text=row["definition"], name=row["name"])
            accepted = [FORMS[kind] + text for text in row["right"]]
        texts = [*turns, question, accepted[0]]
        messages = [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(texts)]
        if dice.random() < 1 / 2:
            messages.insert(0, {"role": "system", "content": RULES})
        prompt, reply = last_reply(messages)
        made.append(
            {"id": row["id"], "kind": kind, "messages": messages, "accepted": accepted}
            | {"prompt": prompt, "completion": f" {reply}"}
        )
    return made
