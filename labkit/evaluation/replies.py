"""Score replies whose right answers are known: content, form, length and refusals, each counted apart.

A model may know the answer and write it in no form that a program can read, or keep the form and be wrong; or it may
answer and never stop. One number would hide which.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from labkit.errors import LabkitError, shown
from labkit.evaluation.proportions import wilson
from labkit.evaluation.results import Evaluation, score
from labkit.generation.replies import Reply
from labkit.printing import printable
from labkit.tasks.phrasings import HOLE, REFUSAL
from labkit.tasks.row import key_of
from labkit.tasks.task import Task

if TYPE_CHECKING:
    from pandas import DataFrame

ALL = "all"
MEASURES = ("exact", "form", "mentioned", "stopped", "refusal")


@dataclass(frozen=True)
class ReplyScores:
    """What replies got right, in all and by kind. ``lk.compare(one.exact, other.exact)`` compares two models.

    In each, ``accuracy`` is the share, ``interval`` Wilson's, ``per_class`` the counts by kind.

    Attributes:
        exact: the reply is one of the accepted answers, but for case and marks.
        form: the reply, but for white space around it, is in the form asked for.
        mentioned: an accepted answer, without what its form adds, occurs in the reply as whole words.
        stopped: the model ended its reply; it was not cut at the limit of tokens.
        refusal: the reply refuses if it should, and does not if it shouldn't.
    """

    exact: Evaluation
    form: Evaluation
    mentioned: Evaluation
    stopped: Evaluation
    refusal: Evaluation
    counts: dict[str, dict[str, tuple[int, int]]] = field(repr=False)

    def table(self) -> DataFrame:
        """Return a row for each kind and measure: kind, measure, correct, total, share, low, high (as fractions)."""
        import pandas as pd

        rows = [
            (kind, measure, right, total, right / total, *wilson(right, total))
            for kind in next(iter(self.counts.values()))
            for measure, (right, total) in ((name, self.counts[name][kind]) for name in MEASURES)
        ]
        return pd.DataFrame(rows, columns=["kind", "measure", "correct", "total", "share", "low", "high"])

    def _cells(self) -> DataFrame:
        found = self.table()
        found["cell"] = [f"{row.share:.0%} ({row.low:.0%} to {row.high:.0%})" for row in found.itertuples()]
        wide = found.pivot(index="kind", columns="measure", values="cell")
        kinds = list(dict.fromkeys(found["kind"]))
        totals = found.set_index("kind")["total"].to_dict()
        wide = wide.loc[kinds, list(MEASURES)]
        wide.insert(0, "n", [totals[kind] for kind in kinds])
        return wide.rename_axis(index=None, columns=None)

    def __str__(self) -> str:
        return printable(self._cells().to_string())

    def _repr_html_(self) -> str:
        return str(self._cells().to_html())


def score_replies(task: Task | Sequence[dict], replies: Sequence[Reply], *, refusal: str = REFUSAL) -> ReplyScores:
    """Compare replies with the accepted answers of a task's test set.

    Args:
        task: a task whose test rows have a column ``accepted``, a list of right answers (without it, ``completion`` is
            the one right answer), or such rows. ``kind`` groups them. ``form`` is the form asked for, with ``…`` where
            the answer goes; without it, any text keeps the form.
        replies: what ``lk.generate`` returned for each row, in the rows' order.
        refusal: what a refusal says. A reply in other words does not count as one: people would have to judge it.

    Raises:
        LabkitError: there are no rows, not one reply for each, or a row without answers or in another form than its own.
    """
    rows = [_checked(row, number) for number, row in enumerate(_rows(task), 1)]
    if isinstance(replies, (str, Reply)) or len(replies) != len(rows):
        given = "one reply" if isinstance(replies, (str, Reply)) else f"{len(replies)} replies"
        raise LabkitError(f"There are {given} to {len(rows)} questions.", "Pass one for each row of the test set.")
    for number, reply in enumerate(replies, 1):
        if not isinstance(reply, Reply):
            raise LabkitError(f"Reply {number} is {shown(reply)}.", "Pass what lk.generate returns.")
    if not (isinstance(refusal, str) and key_of(refusal)):
        raise LabkitError(f"refusal is no sentence: {shown(refusal)}.", f"Try {REFUSAL!r}.")
    kinds = [kind for kind, _, _ in rows]
    order, texts = list(dict.fromkeys(kinds)), [reply.text for reply in replies]
    hits: dict[str, list[bool]] = {name: [] for name in MEASURES}
    for (_, accepted, form), reply in zip(rows, replies, strict=True):
        keys, said = [key_of(answer) for answer in accepted], key_of(reply.text)
        hits["exact"].append(said in keys)
        hits["form"].append(form.fullmatch(reply.text.strip()) is not None)
        hits["mentioned"].append(any(_holds(said, _bare(form, answer)) for answer in accepted))
        hits["stopped"].append(reply.stopped)
        hits["refusal"].append(_holds(said, refusal) == (key_of(refusal) in keys))
    found = {name: score(own, kinds, order, texts) for name, own in hits.items()}
    counts = {name: each.per_class | {ALL: (each.correct, each.total)} for name, each in found.items()}
    return ReplyScores(**found, counts=counts)


def _rows(task: Task | Sequence[dict]) -> list[dict]:
    rows: Any = task.test if isinstance(task, Task) else task
    if isinstance(rows, (str, dict)) or not hasattr(rows, "__iter__") or not all(isinstance(row, dict) for row in rows):
        raise LabkitError(f"{shown(task)} has no rows to score.", "Pass a task, or a list of dictionaries.")
    if not len(rows):
        raise LabkitError("There are no rows to score.", "Pass a task with test examples.")
    return list(rows)


def _checked(row: dict, number: int) -> tuple[str, list[str], re.Pattern[str]]:
    """Return a row's kind, its accepted answers and the pattern of its form."""
    given = row.get("accepted")
    accepted = [str(row.get("completion") or "").strip()] if given is None else given
    if not isinstance(accepted, list) or not accepted or not all(isinstance(a, str) and key_of(a) for a in accepted):
        raise LabkitError(
            f"Row {number} has no right answers: {shown(accepted)}.", 'Give it some: "accepted": ["Department: otology"].'
        )
    form = row.get("form")
    pattern = re.compile(re.escape(form).replace(HOLE, r"(\S(?:[^\n]*\S)?)") if form else r"([\s\S]+)")
    if odd := [answer for answer in accepted if not pattern.fullmatch(answer.strip())]:
        raise LabkitError(f"Row {number} asks for the form {form!r} and accepts {odd[0]!r}.", "Let answers keep the form.")
    return str(row.get("kind") or ALL), accepted, pattern


def _bare(form: re.Pattern[str], answer: str) -> str:
    """Return an accepted answer without what its form adds."""
    found = form.fullmatch(answer.strip())
    return found[1] if found and form.groups else answer


def _holds(said: str, text: str) -> bool:
    """Return whether a text occurs in what was said, whose key is ``said``, as whole words."""
    return f" {key_of(text)} " in f" {said} "
