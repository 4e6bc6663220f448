"""A task: prompts with the completions a model should learn, split into training and test sets."""

from __future__ import annotations

from dataclasses import dataclass, field

from datasets import Dataset

from labkit.tasks.summary import describe


@dataclass(frozen=True)
class Task:
    """Examples for training and examples for testing.

    Attributes:
        name: what it was loaded as.
        train, test: columns ``prompt`` and ``completion`` (the two are joined as they stand).
        labels: the possible completions of a classification task; empty if any text may follow.
        source: whom to cite.
        notes: the notes from when the data were loaded.
        left_out: how many examples are in neither set, by reason.
    """

    name: str
    train: Dataset = field(repr=False)
    test: Dataset = field(repr=False)
    labels: tuple[str, ...]
    source: str
    notes: tuple[str, ...] = field(default=(), repr=False)
    left_out: dict[str, int] = field(default_factory=dict, repr=False, hash=False)

    def __str__(self) -> str:
        return str(describe(self))

    def _repr_html_(self) -> str:
        return describe(self)._repr_html_()


class DataWarning(UserWarning):
    """A learner's data became a task, but not all of it as they might expect."""
