"""Inspect data before training: what is in them, and what is wrong with them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from labkit.curation.contamination import find_leaks
from labkit.curation.duplicates import find_duplicates
from labkit.curation.labels import Suspects, find_suspects
from labkit.curation.languages import find_languages
from labkit.curation.lengths import measure_lengths
from labkit.curation.personal import find_personal
from labkit.curation.report import Report
from labkit.curation.words import shingles, unframed
from labkit.errors import LabkitError
from labkit.tasks.chunks import read_part
from labkit.tasks.labels import are_labels
from labkit.tasks.row import Row
from labkit.tasks.sources import parts_of
from labkit.tasks.task import Task


def inspect(data: object, *, columns: Mapping[str, str] | None = None) -> Report:
    """Look for copies, leaks, suspect labels, personal data and odd texts; nothing is changed and no row is left out.

    Args:
        data: whatever ``load_task`` reads, or a ``Task``.
        columns: which columns are prompt and completion, as ``load_task`` takes them.

    Raises:
        LabkitError: the data can't be read, no row can be used, or a package of the extra ``curation`` is missing.
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
    texts = unframed([row.prompt for row in rows]) if labelled else [f"{row.prompt}{row.completion}" for row in rows]
    train = len(parts[False])
    runs = [shingles(text) for text in texts[:train]]
    copies = find_duplicates(texts[:train], runs=runs)
    leaks = find_leaks(texts[:train], texts[train:], trained=runs)
    suspects = Suspects({}, ())
    if labelled:
        kept = copies.copy_of
        given = [row.completion for row in rows[:train]]
        suspects = find_suspects(texts[:train], given, groups=[kept.get(i, i) for i in range(train)])
    personal = {i: find_personal(f"{row.prompt}{row.completion}") for i, row in enumerate(rows)}
    return Report(
        name=name,
        rows=rows,
        train=train,
        labels=dict(Counter(row.completion for row in rows)) if labelled else {},
        duplicates=copies,
        leaks=[leak._replace(test=leak.test + train) for leak in leaks],
        suspects=suspects,
        personal={i: found for i, found in personal.items() if found},
        languages=find_languages(texts),
        lengths=measure_lengths(texts),
        unusable=unusable,
        unusable_rows=count,
        notes=notes,
    )
