"""Examples that were read together and have one role: for training, for testing, or still to be split."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import chain, islice

from labkit.errors import LabkitError
from labkit.tasks.columns import layout_of
from labkit.tasks.faults import Faults
from labkit.tasks.roles import ROLE, role_of
from labkit.tasks.row import Row
from labkit.tasks.sources import Part
from labkit.tasks.values import example_of

PEEK = 1000  # rows that are read first, to find out which columns there are


@dataclass
class Chunk:
    """Examples of one role from one source."""

    role: str
    name: str
    faults: Faults
    named_labels: bool = False
    rows: list[Row] = field(default_factory=list)


def read_part(part: Part, columns: Mapping[str, str] | None, notes: list[str]) -> list[Chunk]:
    """Return the examples of a part: several chunks where a column says to which set a row belongs.

    Raises:
        LabkitError: it is empty, or lacks a column.
    """
    first = list(islice(part.rows, PEEK))
    if not first:
        if not part.faults:
            raise LabkitError(f"{part.faults.name} is empty.", "Bring at least a few dozen examples.")
        return [Chunk(part.role, part.name, part.faults)]
    given = list({column: None for _, row in first for column in row})
    layout = layout_of(given, [row for _, row in first], columns, part.faults.name)
    if layout.note and layout.note not in notes:
        notes.append(layout.note)
    chunks = {part.role: Chunk(part.role, part.name, part.faults, layout.has_labels)}
    column = _split_column(given, [row for _, row in first], part, layout.needed)
    for number, row in chain(first, part.rows):
        role = role_of(row.get(column)) if column else part.role
        if role is None:
            names = ", ".join(dict.fromkeys(ROLE))
            part.faults.add(number, f"the {column} is {row.get(column)!r}", f"Write one of {names} there.")
        elif example := example_of(row, number, layout, part.faults):
            chunks.setdefault(role, Chunk(role, part.name, part.faults, layout.has_labels)).rows.append(example)
    return list(chunks.values())


def _split_column(given: list[str], rows: list[dict], part: Part, needed: tuple[str, ...]) -> str | None:
    column = next((name for name in given if name.strip().casefold() == "split" and name not in needed), None)
    named = column and any(role_of(row.get(column)) for row in rows)
    return column if named and part.role == "whole" else None
