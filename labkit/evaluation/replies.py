"""Score replies whose right answers are known: content, form, length and refusals, each counted apart.

A model may know the answer and write it in no form that a program can read, or keep the form and be wrong; or it may
answer and never stop. One number would hide which.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from labkit.errors import LabkitError, shown
from labkit.evaluation.reply_scores import MEASURES, ReplyScores
from labkit.evaluation.results import score
from labkit.generation.replies import Reply
from labkit.tasks.phrasings import HOLE, REFUSAL
from labkit.tasks.row import holds, key_of
from labkit.tasks.task import Task

NO_KIND = "no kind"
ANSWER = r"(\S(?:[^\n]*\S)?)"  # of one line, and not empty


def score_replies(task: Task | Sequence[dict], replies: Sequence[Reply], *, refusal: str = REFUSAL) -> ReplyScores:
    """Compare replies with the accepted answers of a task's test set.

    Args:
        task: a task whose test rows have a column ``accepted``, a list of right answers (without it, ``completion`` is
            the one right answer), or such rows. ``kind`` groups them. ``form`` is the form asked for, with ``…`` where
            the answer goes; without it, any text keeps the form.
        replies: what ``lk.generate`` returned for each row, in the rows' order.
        refusal: what a refusal says. A reply in other words does not count as one: people would have to judge it.

    Raises:
        LabkitError: there are no rows, there isn't one reply for each, or a row has no answers, or answers that don't
            keep its own form.
    """
    rows = [_checked(row, number) for number, row in enumerate(_rows(task), 1)]
    _require_replies(replies, len(rows))
    if not (isinstance(refusal, str) and key_of(refusal)):
        raise LabkitError(f"refusal is no sentence: {shown(refusal)}.", f"Try {REFUSAL!r}.")
    exact, form, mentioned, refused = [], [], [], []
    for (_, accepted, pattern), reply in zip(rows, replies, strict=True):
        keys, said = [key_of(answer) for answer in accepted], key_of(reply.text)
        exact.append(said in keys)
        form.append(pattern.fullmatch(reply.text.strip()) is not None)
        mentioned.append(any(holds(said, _bare(pattern, answer)) for answer in accepted))
        refused.append(holds(said, refusal) == (key_of(refusal) in keys))
    stopped = [reply.stopped for reply in replies]
    kinds, texts = [kind for kind, _, _ in rows], [reply.text for reply in replies]
    order = list(dict.fromkeys(kinds))
    found = (exact, form, mentioned, stopped, refused)
    return ReplyScores(**{name: score(hits, kinds, order, texts) for name, hits in zip(MEASURES, found, strict=True)})


def _rows(task: Task | Sequence[dict]) -> list[dict]:
    rows: Any = task.test if isinstance(task, Task) else task
    if isinstance(rows, (str, dict)) or not hasattr(rows, "__iter__"):
        raise LabkitError(f"{shown(task)} has no rows to score.", "Pass a task, or a list of dictionaries.")
    found = list(rows)
    if not found or not all(isinstance(row, dict) for row in found):
        raise LabkitError("There are no rows to score.", "Pass a task with test examples, or a list of dictionaries.")
    return found


def _checked(row: dict, number: int) -> tuple[str, list[str], re.Pattern[str]]:
    """Return a row's kind, its accepted answers and the pattern of its form."""
    given = row.get("accepted")
    accepted = [str(row.get("completion") or "")] if given is None else given
    if not isinstance(accepted, list) or not accepted or not all(isinstance(a, str) and key_of(a) for a in accepted):
        raise LabkitError(
            f"Row {number} has no right answers: {shown(accepted)}.",
            'Give it some: {"accepted": ["Department: otology"]}, or a completion.',
        )
    form = row.get("form")
    if form is not None and not (isinstance(form, str) and form.strip()):
        raise LabkitError(f"Row {number} has as form {shown(form)}.", f"Write it as 'Department: {HOLE}'.")
    pattern = re.compile(re.escape(form.strip()).replace(HOLE, ANSWER) if form else r"([\s\S]+)")
    if odd := [answer for answer in accepted if not pattern.fullmatch(answer.strip())]:
        raise LabkitError(
            f"Row {number} asks for the form {form!r} and accepts {odd[0]!r}.", "Let accepted answers keep the form."
        )
    return str(row.get("kind") or NO_KIND), accepted, pattern


def _require_replies(replies: object, count: int) -> None:
    if not isinstance(replies, (list, tuple)) or len(replies) != count:
        given = f"{len(replies)} replies" if isinstance(replies, (list, tuple)) else shown(replies)
        raise LabkitError(f"To {count} questions there are {given}.", "Pass a list of one reply for each test row.")
    for number, reply in enumerate(replies, 1):
        if not isinstance(reply, Reply):
            raise LabkitError(f"Reply {number} is {shown(reply)}.", "Pass what lk.generate returns.")


def _bare(form: re.Pattern[str], answer: str) -> str:
    """Return an accepted answer without what its form adds."""
    found = form.fullmatch(answer.strip())
    return found[1] if found and form.groups else answer
