"""A task at a glance: how many examples, of which classes, how long, and what was left out."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING

from labkit.errors import LabkitError, require_count, shown
from labkit.models.context import MAX_LENGTH
from labkit.models.model import Model
from labkit.tasks.lengths import drawn, measure, reader_in_cache
from labkit.tasks.pair_sets import read_texts
from labkit.tasks.summary_table import as_html, as_text

if TYPE_CHECKING:
    from labkit.tasks.task import Task

EXAMPLES = 3


@dataclass(frozen=True)
class Summary:
    """The contents of a task. A notebook shows them as a table, and so does ``print``.

    Attributes:
        name: of the task.
        train, test: how many examples of each.
        classes: how many examples of each class are in train and in test, the most frequent class first; empty
            if any text may follow a prompt.
        unit: what lengths are counted in: ``"characters"``, or ``"tokens of"`` a model.
        measured: how many examples were measured; a random sample if there are more.
        median, percentile_95, longest: half of the measured examples, 95% and all of them are at most this long.
            The length is that of what training reads: prompt, completion and end token, or an encoder's prompt.
        limit: the most tokens that training reads: ``max_length``, or what the model can read if that is less.
        beyond: how many of the measured examples are longer; None if characters were counted.
        examples: prompt and completion of some training examples.
        left_out: how many rows are in neither set, by reason.
        notes: the notes from when the data were loaded.
    """

    name: str
    train: int
    test: int
    classes: dict[str, tuple[int, int]]
    unit: str
    measured: int
    median: int
    percentile_95: int
    longest: int
    limit: int
    beyond: int | None
    examples: tuple[tuple[str, str], ...]
    left_out: dict[str, int]
    notes: tuple[str, ...]

    @property
    def share_beyond(self) -> float | None:
        """The share of the measured examples that are longer than the limit."""
        return None if self.beyond is None else self.beyond / max(1, self.measured)

    def __str__(self) -> str:
        return as_text(self)

    def _repr_html_(self) -> str:
        return as_html(self)


def describe(task: Task, model: Model | None = None, *, max_length: int = MAX_LENGTH) -> Summary:
    """Count and measure a task's examples, those of both sets together.

    Args:
        task: what ``load_task`` returns.
        model: the model whose tokens to count. Without it, SmolLM2's are counted if the course's copy is in the cache,
            and otherwise characters: nothing is downloaded.
        max_length: the setting that you would train with.

    Raises:
        LabkitError: task, model or ``max_length`` is something else, or the model can't read one of the texts.
    """
    if not all(hasattr(task, part) for part in ("train", "test", "labels")):
        raise LabkitError(f"A {type(task).__name__} is not a task.", "Pass what load_task returns.")
    if not isinstance(model, Model | None):
        raise LabkitError(f"{shown(model)} is not a model.", "Pass what load_model returns, or nothing.")
    limit = require_count("max_length", max_length)
    reader = model or reader_in_cache()
    if reader:
        limit = min(limit, reader.max_length)
    lengths = sorted(measure(*drawn(task.train, task.test), reader))
    return Summary(
        name=task.name,
        train=len(task.train),
        test=len(task.test),
        classes=_classes(task),
        unit=f"tokens of {reader.name}" if reader else "characters",
        measured=len(lengths),
        median=_quantile(lengths, 0.5),
        percentile_95=_quantile(lengths, 0.95),
        longest=_quantile(lengths, 1),
        limit=limit,
        beyond=sum(length > limit for length in lengths) if reader else None,
        examples=_examples(task),
        left_out=dict(task.left_out),
        notes=tuple(task.notes),
    )


def _quantile(lengths: Sequence[int], share: float) -> int:
    """Return the smallest of the sorted lengths that at least this share of them does not exceed."""
    return lengths[ceil(share * len(lengths)) - 1] if lengths else 0


def _classes(task: Task) -> dict[str, tuple[int, int]]:
    if not task.labels:
        return {}
    train, test = (Counter(part["completion"][:]) for part in (task.train, task.test))
    counts = {label: (train[label], test[label]) for label in {*task.labels, *train, *test}}
    return dict(sorted(counts.items(), key=lambda item: (-sum(item[1]), item[0])))


def _examples(task: Task) -> tuple[tuple[str, str], ...]:
    """Return some training examples from all parts of the set: its rows may be sorted by class."""
    count = len(task.train)
    rows = task.train.select(random.Random(0).sample(range(count), min(EXAMPLES, count)))
    return tuple(read_texts(rows, shown=True))
