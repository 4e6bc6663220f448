"""What was found in data, and the rows without what you ask to leave out."""

from __future__ import annotations

from dataclasses import dataclass, field

from labkit.curation.contamination import Leak
from labkit.curation.duplicates import Duplicates
from labkit.curation.labels import Suspects
from labkit.curation.languages import find_others
from labkit.curation.lengths import Lengths
from labkit.curation.personal import Personal
from labkit.errors import unknown
from labkit.tasks.row import Row

REASONS = (
    "exact copies", "near copies", "leaks", "suspect labels", "personal data", "other language", "too short",
    "too long",
)  # fmt: skip


@dataclass(frozen=True)
class Findings:
    """What was found in data; rows are indices into ``rows``.

    Attributes:
        name: what the data are called.
        rows: the usable rows, to train on and, where the data are split, then to test on.
        train: how many of them are to train on.
        labels: how many rows have each label; empty for free text.
        duplicates, leaks, suspects, personal: what was found; personal data by row.
        languages: the language of each row by its code, ``"und"`` where that is unsure.
        lengths: how long the texts are, and which lengths are unlike the others.
        unusable: what is wrong with rows that can't be used, by line; at most twenty, then how many more.
        unusable_rows: how many those are.
        notes: what the reader noticed.
    """

    name: str
    rows: list[Row] = field(repr=False)
    train: int
    labels: dict[str, int]
    duplicates: Duplicates = field(repr=False)
    leaks: list[Leak] = field(repr=False)
    suspects: Suspects = field(repr=False)
    personal: dict[int, list[Personal]] = field(repr=False)
    languages: list[str] = field(repr=False)
    lengths: Lengths = field(repr=False)
    unusable: list[str]
    unusable_rows: int
    notes: list[str]

    def reasons(self) -> dict[str, dict[int, str]]:
        """Return, for each kind of fault, why each row has it; rows named there are numbered as in their file."""
        near, exact = self.duplicates.near, self.duplicates.exact
        return {
            "exact copies": {i: f"equals row {self.rows[first].number}" for i, first in exact.items()},
            "near copies": {
                i: f"shares {share:.0%} with row {self.rows[first].number}" for i, (first, share) in near.items()
            },
            "leaks": {leak.train: f"{leak.kind} copy of test row {self.rows[leak.test].number}" for leak in self.leaks},
            "suspect labels": {i: f"looks like {label.strip()!r}" for i, label in self.suspects.rows.items()},
            "personal data": {i: ", ".join(each.kind for each in found) for i, found in self.personal.items()},
            "other language": find_others(self.languages),
            "too short": {i: f"{self.lengths.counts[i]:,} characters" for i in self.lengths.short()},
            "too long": {i: f"{self.lengths.counts[i]:,} characters" for i in self.lengths.long()},
        }

    def clean(self, *drop: str) -> tuple[list[Row], dict[int, str]]:
        """Return the training rows without those that you name, such as ``"exact copies"``, and why each was left out.

        Raises:
            LabkitError: there is no such reason.
        """
        for name in drop:
            if name not in REASONS:
                raise unknown("reason to drop a row", name, REASONS)
        found = self.reasons()
        dropped: dict[int, str] = {}
        for name in drop:
            for i, why in found[name].items():
                if i < self.train:
                    dropped[i] = f"{dropped[i]}; {name}: {why}" if i in dropped else f"{name}: {why}"
        return [row for i, row in enumerate(self.rows[: self.train]) if i not in dropped], dropped

    def counts(self) -> dict[str, int]:
        """Return how many rows have each kind of fault."""
        return {name: len(rows) for name, rows in self.reasons().items()} | {"unusable rows": self.unusable_rows}
