"""Examples of one's own: read, checked, and with every fault named before anything is learnt from them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import chain, islice

from labkit.errors import LabkitError
from labkit.tasks.columns import layout_of
from labkit.tasks.faults import Faults
from labkit.tasks.labels import are_labels, differ_by_case, differ_unseen, find_unseen, merging, space_to_label
from labkit.tasks.row import Row
from labkit.tasks.sources import ROLE, Part, parts_of
from labkit.tasks.values import example_of

PEEK = 1000  # rows that are looked at to find out what columns there are
BAD = "can't be used"
VALIDATION = "validation set, beside a test set"


@dataclass
class Own:
    """A learner's examples, before they are split.

    Attributes:
        name: what the data are called.
        train: the examples, those to train on where the data came split.
        test: those to test on, or None where the data didn't come split.
        has_labels: whether the completions are labels.
        notes: what should be said of them.
        left_out: how many rows are in neither, by reason.
        where: returns how to find one of ``train`` by its number, such as "line 7".
    """

    name: str
    train: list[Row]
    test: list[Row] | None
    has_labels: bool
    notes: list[str]
    left_out: dict[str, int]
    where: Callable[[int], str]


@dataclass
class _Chunk:
    """Examples of one role from one source."""

    role: str
    rows: list[Row]
    faults: Faults
    named_labels: bool


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
    parts = parts_of(data, notes)
    if test_data is not None:
        parts = _with_test(parts, parts_of(test_data, notes))
    chunks = [chunk for part in parts for chunk in _read(part, columns, notes)]
    all_faults = list({id(chunk.faults): chunk.faults for chunk in chunks}.values())
    roles = {chunk.role for chunk in chunks if chunk.rows}
    if {"test", "validation"} <= roles:
        left_out[VALIDATION] = sum(len(chunk.rows) for chunk in chunks if chunk.role == "validation")
        chunks = [chunk for chunk in chunks if chunk.role != "validation"]
    rows = [row for chunk in chunks for row in chunk.rows]
    has_labels = are_labels(rows, named=chunks[0].named_labels)
    if has_labels:
        notes += _settle_labels(chunks, merge=merge_labels)
    train, test = [], []
    for chunk in chunks:
        (test if chunk.role in ("test", "validation") else train).extend(chunk.rows)
    _settle_faults(all_faults, notes, left_out, skip=skip_bad)
    if has_labels:
        notes += differ_by_case(train, chunks[0].faults.where)
    return Own(all_faults[0].name, train, test or None, has_labels, notes, left_out, chunks[0].faults.where)


def _with_test(parts: list[Part], tests: list[Part]) -> list[Part]:
    if len(tests) > 1 or any(part.role == "test" for part in parts):
        raise LabkitError("The data hold a test set already, and test_data another.", "Pass one of them alone.")
    return parts + [Part("test", part.rows, part.faults) for part in tests]


def _read(part: Part, columns: Mapping[str, str] | None, notes: list[str]) -> list[_Chunk]:
    """Return the examples of a part: several chunks where a column says to which set a row belongs."""
    first = list(islice(part.rows, PEEK))
    if not first:
        if not part.faults:
            raise LabkitError(f"{part.faults.name} is empty.", "Bring at least a few dozen examples.")
        return [_Chunk(part.role, [], part.faults, False)]
    given = list({column: None for _, row in first for column in row})
    layout = layout_of(given, [row for _, row in first], columns, part.faults.name)
    if layout.note and layout.note not in notes:
        notes.append(layout.note)
    chunks = {part.role: _Chunk(part.role, [], part.faults, layout.has_labels)}
    column = _split_column(given, [row for _, row in first], part, layout.needed)
    for number, row in chain(first, part.rows):
        role = ROLE.get(str(row.get(column)).strip().casefold()) if column else part.role
        if role is None:
            names = ", ".join(dict.fromkeys(ROLE))
            part.faults.add(number, f"the {column} is {row.get(column)!r}", f"Write one of {names} there.")
        elif example := example_of(row, number, layout, part.faults):
            chunks.setdefault(role, _Chunk(role, [], part.faults, layout.has_labels)).rows.append(example)
    return list(chunks.values())


def _split_column(given: list[str], rows: list[dict], part: Part, needed: tuple[str, ...]) -> str | None:
    column = next((name for name in given if name.strip().casefold() == "split" and name not in needed), None)
    named = column and any(str(row.get(column)).strip().casefold() in ROLE for row in rows)
    return column if named and part.role == "whole" else None


def _settle_labels(chunks: list[_Chunk], *, merge: bool) -> list[str]:
    """Write labels that look the same alike, or add those that are rare to the faults."""
    labels = Counter(row.completion for chunk in chunks for row in chunk.rows)
    if differ_unseen(labels):  # perhaps since some prompts end with a space and some don't
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


def _settle_faults(all_faults: list[Faults], notes: list[str], left_out: dict[str, int], *, skip: bool) -> None:
    for faults in all_faults:
        if not skip:
            faults.raise_any()
        elif faults:
            lines = "".join(f"\n    {line}" for line in faults.listed())
            notes.append(f"left out, since they can't be used: {len(faults.rows):,} of {faults.name}{lines}")
            left_out[BAD] = left_out.get(BAD, 0) + len(faults.rows)
