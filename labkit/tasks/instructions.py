"""The instruction task: conversations about medical findings, whose answers can be checked.

Built at run time, of four kinds of last question: ``route`` (from a definition to the department), ``name`` (to the
finding's name), ``plain`` (from name and definition to plain words) and ``refuse`` (a question that is not about
findings). Names and plain words are chosen among three, or as many as the set has, and the words of a name are in its
definition: else they must be known, and a short training teaches a small model none. It is an exercise in fine-tuning,
not medical advice.
"""

from __future__ import annotations

import random
import warnings
from collections import Counter
from collections.abc import Mapping
from typing import Any

from labkit.storage.cache import course_data
from labkit.tasks.course import course_split
from labkit.tasks.findings import findings
from labkit.tasks.messages import last_reply
from labkit.tasks.phrasings import FIRST, FORMS, HOLE, LATER, OFFER, RULES, TEST_FIRST, TEST_LATER
from labkit.tasks.task import DataWarning

CHOICES = 3  # of a question that offers some
BETWEEN = "; "


def instruction_split(train: int, test: int, seed: int) -> tuple[list[dict], list[dict]]:
    """Draw conversations for training and for testing, evenly over the kinds while there are some of each.

    A finding, and a question to be refused, is in one set only, and neither names nor definitions of training are near
    copies of those of the test. Within a kind, departments take turns. Of each kind, a third of the conversations have
    two questions, and half have the rules as a system message. Some wordings occur in the test set alone.

    Returns:
        Rows for training and for testing, each with id, kind, messages, accepted (all right answers, the one to learn
        first), form, and prompt and completion, which are the messages as texts.

    Warns:
        DataWarning: a kind has too few to be as many as the others.
    """
    rows = findings(course_data() / "out_of_scope.jsonl")
    learned, tested = course_split(rows, train, test, seed, within="department")
    for part, drawn in (("training", learned), ("test", tested)):
        counts = Counter(row["label"] for row in drawn)
        if max(counts.values()) - min(counts.values()) > 1:
            listed = ", ".join(f"{kind} {count}" for kind, count in sorted(counts.items()))
            warnings.warn(f"The kinds are not even in the {part} set, for want of more: {listed}.", DataWarning, 4)
    # Each set has its own dice: more training data never changes what is tested.
    return (
        _conversations(learned, random.Random(f"{seed} train"), {}, {}),
        _conversations(tested, random.Random(f"{seed} test"), TEST_FIRST, TEST_LATER),
    )


def choices_of(row: Mapping[str, Any]) -> list[str]:
    """Return the choices that the last question of a row's ``messages`` offers; []: none, as of ``route``."""
    questions = [turn["content"] for turn in row.get("messages") or () if turn["role"] == "user"]
    _, offer, listed = questions[-1].partition(OFFER) if questions else ("", "", "")
    return listed.split(BETWEEN) if offer else []


def _conversations(rows: list[dict], dice: random.Random, more_first: dict, more_later: dict) -> list[dict]:
    about = [row for row in rows if row["label"] != "refuse"]
    offered = {kind: [row["right"][0] for row in rows if row["label"] == kind] for kind in ("name", "plain")}
    made, counts = [], Counter[str]()
    for row in rows:
        kind, turns = row["label"], []
        number, counts[kind] = counts[kind], counts[kind] + 1
        if number % 3 == 2 and about:
            subject = dice.choice(about) if kind == "refuse" else row
            before = "route" if kind == "name" else "name"
            answer = subject["department"] if before == "route" else subject["name"]
            wording = dice.choice(FIRST[before] + more_first.get(before, ()))
            turns = [wording.format(text=subject["definition"]), FORMS[before].replace(HOLE, answer)]
        if kind == "refuse":
            question = row["text"]
        else:
            usual, more = (LATER, more_later) if turns else (FIRST, more_first)
            wording = dice.choice(usual[kind] + more.get(kind, ()))
            question = wording.format(text=row["definition"], name=row["name"])
        if kind in offered:  # the others are of the same set: training shows no name of the test
            others = [text for text in offered[kind] if text != row["right"][0]]
            choices = [row["right"][0], *dice.sample(others, min(CHOICES - 1, len(others)))]
            question += OFFER + BETWEEN.join(dice.sample(choices, len(choices)))
        accepted = [FORMS[kind].replace(HOLE, text) for text in row["right"]]
        texts = [*turns, question, accepted[0]]
        messages = [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(texts)]
        if number % 2:  # with thirds and halves, every combination occurs equally often
            messages.insert(0, {"role": "system", "content": RULES})
        prompt, reply = last_reply(messages)
        made.append(
            {"id": row["id"], "kind": kind, "messages": messages, "accepted": accepted, "form": FORMS[kind]}
            | {"prompt": prompt, "completion": f" {reply}"}
        )
    return made
