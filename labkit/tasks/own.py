"""A learner's own examples: read, checked, and every fault named before any training."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from labkit.errors import LabkitError
from labkit.tasks.chunks import Chunk, read_part
from labkit.tasks.faults import Faults
from labkit.tasks.labels import are_labels, differ_by_case, differ_unseen, find_unseen, merging, space_to_label
from labkit.tasks.pair_sets import on_lengths
from labkit.tasks.row import Row
from labkit.tasks.sources import parts_of

BAD = "can't be used"
VALIDATION = "validation set, beside a test set"


@dataclass
class Own:
    """A learner's examples, before they are split.

    Attributes:
        name: what the data are called.
        train: the examples; if the data came split, those for training.
        test: the examples for testing, or None if the data did not come split.
        has_labels: whether the completions are labels.
        has_pairs: whether each is a pair of replies.
        notes: what the learner should know about the data.
        left_out: how many rows are in neither, by reason.
        where: returns how to find one of ``train`` by its number, such as "line 7".
    """

    name: str
    train: list[Row]
    test: list[Row] | None
    has_labels: bool
    has_pairs: bool
    notes: list[str]
    left_out: dict[str, int]
    where: Callable[[int], str]


def read_own(
    data: object,
    test_data: object = None,
    *,
    columns: Mapping[str, str] | None = None,
    merge_labels: bool = False,
    skip_bad: bool = False,
) -> Own:
    """Read and check a learner's data; see ``load_task``.

    Raises:
        LabkitError: they can't be read, lack a column, are empty, or have faults; up to twenty are named by line.
    """
    notes: list[str] = []
    left_out: dict[str, int] = {}
    chunks = [chunk for part in parts_of(data, notes) for chunk in read_part(part, columns, notes)]
    if test_data is not None:
        chunks += _read_test(test_data, chunks, columns, notes)
    all_faults = list({id(chunk.faults): chunk.faults for chunk in chunks}.values())
    roles = {chunk.role for chunk in chunks if chunk.rows}
    if {"test", "validation"} <= roles:
        left_out[VALIDATION] = sum(len(chunk.rows) for chunk in chunks if chunk.role == "validation")
        chunks = [chunk for chunk in chunks if chunk.role != "validation"]
    first = next((chunk for chunk in chunks if chunk.role in ("train", "whole")), chunks[0])
    rows = [row for chunk in chunks for row in chunk.rows]
    has_pairs = any(row.columns for row in rows)
    if has_pairs and not all(row.columns for row in rows):
        raise LabkitError(
            f"One part of {first.name} holds pairs of replies and another doesn't.",
            "Give all parts the columns prompt, chosen and rejected.",
        )
    has_labels = not has_pairs and are_labels(rows, named=first.named_labels)
    if has_labels:
        notes += _settle_labels(chunks, merge=merge_labels)
    train: list[Row] = []
    test: list[Row] = []
    for chunk in chunks:
        (test if chunk.role in ("test", "validation") else train).extend(chunk.rows)
    _settle_faults(all_faults, notes, left_out, rows, skip=skip_bad and bool(rows))
    if not test and any(chunk.role in ("test", "validation") for chunk in chunks):
        raise LabkitError("No example of the test set can be used.", "Leave it out, and labkit draws one.")
    if merge_labels and not has_labels:
        raise LabkitError(
            f"merge_labels=True is for labels, and the completions of {first.name} are free text.", "Leave it out."
        )
    if has_labels:
        notes += differ_by_case([(chunk.rows, chunk.faults.where) for chunk in chunks])
    if has_pairs:
        notes += on_lengths([row.columns for row in rows if row.columns])
    return Own(first.name, train, test or None, has_labels, has_pairs, notes, left_out, first.faults.where)


def _read_test(data: object, others: list[Chunk], columns: Mapping[str, str] | None, notes: list[str]) -> list[Chunk]:
    parts = parts_of(data, notes)
    if len(parts) > 1 or any(chunk.role == "test" for chunk in others):
        raise LabkitError("The data hold a test set already, and test_data another.", "Pass one of them alone.")
    parts[0].role = "test"
    parts[0].faults.name += " (test_data)"
    return read_part(parts[0], columns, notes)


def _settle_labels(chunks: list[Chunk], *, merge: bool) -> list[str]:
    """Unify the spelling of labels that look the same, or add the rarer ones to the faults."""
    labels = Counter(row.completion for chunk in chunks for row in chunk.rows)
    if differ_unseen(labels):  # perhaps because only some prompts end with a space
        for chunk in chunks:
            chunk.rows = [space_to_label(row) for row in chunk.rows]
        labels = Counter(row.completion for chunk in chunks for row in chunk.rows)
    spelling, notes = merging(labels) if merge else ({}, [])
    for chunk in chunks:
        if spelling:
            chunk.rows = [row._replace(completion=spelling.get(row.completion, row.completion)) for row in chunk.rows]
        elif not merge:
            chunk.rows = find_unseen(chunk.rows, labels, chunk.faults)
    return notes


def _settle_faults(
    all_faults: list[Faults], notes: list[str], left_out: dict[str, int], rows: list[Row], *, skip: bool
) -> None:
    for faults in all_faults:
        if not skip or faults.cut:
            faults.raise_any("" if skip or faults.cut or not rows else "skip_bad=True leaves such rows out.")
        elif faults:
            lines = "".join(f"\n    {line}" for line in faults.listed())
            notes.append(f"left out, since they can't be used: {len(faults.rows):,} of {faults.name}{lines}")
            left_out[BAD] = left_out.get(BAD, 0) + len(faults.rows)
