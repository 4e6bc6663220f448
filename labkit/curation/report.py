"""Inspect data before training: what is in them, what is wrong, and the rows without what you ask to leave out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from labkit.curation.contamination import Leak, find_leaks
from labkit.curation.duplicates import Duplicates, find_duplicates
from labkit.curation.labels import Suspects, find_suspects
from labkit.curation.page import as_page, as_table
from labkit.curation.personal import Personal, find_personal
from labkit.errors import LabkitError, unknown
from labkit.printing import printable
from labkit.storage.files import write_text
from labkit.tasks.chunks import read_part
from labkit.tasks.labels import are_labels
from labkit.tasks.row import Row
from labkit.tasks.sources import parts_of
from labkit.tasks.task import Task

REASONS = ("exact copies", "near copies", "leaks", "suspect labels", "personal data")


@dataclass(frozen=True)
class Report:
    """What was found in data; rows are indices into ``rows``.

    Attributes:
        name: what the data are called.
        rows: the usable rows, to train on and, where the data are split, then to test on.
        train: how many of them are to train on.
        labels: how many rows have each label; empty for free text.
        duplicates, leaks, suspects, personal: what was found; personal data by row.
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

    def facts(self) -> dict[str, str]:
        """Return the contents of the table."""
        lengths = sorted(len(row.prompt) + len(row.completion) for row in self.rows) or [0]
        middle = f"{lengths[len(lengths) // 2]:,}"
        told = {
            "rows": f"{self.train:,} to train on, {len(self.rows) - self.train:,} to test on",
            "characters": f"shortest {lengths[0]:,}, median {middle}, longest {lengths[-1]:,}",
            "labels": ", ".join(f"{label.strip()} {n:,}" for label, n in self.labels.items()) or "free text",
        }
        told |= {name: f"{count:,}" for name, count in self.counts().items()}
        if self.labels:
            told["labels not judged"] = f"{len(self.suspects.unjudged):,}"
        if self.duplicates.passed_over:
            told["pairs not compared"] = f"{self.duplicates.passed_over:,}: too many texts share a template"
        return told

    def save(self, path: str | Path) -> None:
        """Write the report as one HTML page that needs no network; personal data are masked."""
        listed = {
            kind: [(self.rows[i].number, why) for i, why in sorted(found.items())]
            for kind, found in self.reasons().items()
        }
        write_text(Path(path), as_page(self.name, self.facts(), listed, [*self.notes, *self.unusable]))

    def __str__(self) -> str:
        wide = max(map(len, self.facts())) + 2
        return printable("\n".join([f"Data {self.name}", *(f"{k:{wide}}{v}" for k, v in self.facts().items())]))

    def _repr_html_(self) -> str:
        return as_table(f"Data {self.name}", self.facts())


def inspect(data: object, *, columns: Mapping[str, str] | None = None) -> Report:
    """Look for copies, leaks, suspect labels and personal data; nothing is changed and no row is left out.

    Args:
        data: whatever ``load_task`` reads, or a ``Task``.
        columns: which columns are prompt and completion, as ``load_task`` takes them.

    Raises:
        LabkitError: the data can't be read, no row can be used, or datasketch or scikit-learn is missing.
    """
    notes: list[str] = []
    parts: dict[bool, list[Row]] = {False: [], True: []}
    unusable, count, named = [], 0, False
    source = {"train": data.train, "test": data.test} if isinstance(data, Task) else data
    name = data.name if isinstance(data, Task) else ""
    for part in parts_of(source, notes):
        for chunk in read_part(part, columns, notes):
            parts[chunk.role in ("test", "validation")] += chunk.rows
            named |= chunk.named_labels
        name = name or part.name
        count += len(part.faults.rows)
        unusable += part.faults.listed()
    rows = parts[False] + parts[True]
    if not rows:
        raise LabkitError(f"No row of {name} can be used: {'; '.join(unusable[:3])}.", "Repair the rows first.")
    labelled = bool(isinstance(data, Task) and data.labels) or are_labels(rows, named=named)
    prompts = [row.prompt for row in rows]
    texts = prompts if labelled else [f"{row.prompt}{row.completion}" for row in rows]
    train = len(parts[False])
    copies = find_duplicates(texts[:train])
    leaks = [leak._replace(test=leak.test + train) for leak in find_leaks(texts[:train], texts[train:])]
    labels = Counter(row.completion for row in rows) if labelled else {}
    suspects = Suspects({}, ())
    if labelled:
        given = [row.completion for row in rows[:train]]
        suspects = find_suspects(texts[:train], given, groups=[copies.copy_of.get(i, i) for i in range(train)])
    personal = {i: found for i, row in enumerate(rows) if (found := find_personal(f"{row.prompt}{row.completion}"))}
    return Report(name, rows, train, dict(labels), copies, leaks, suspects, personal, unusable, count, notes)
