"""Read tables as text: columns separated by commas or tabs, with a header."""

from __future__ import annotations

import re
from collections.abc import Iterator

from labkit.errors import LabkitError
from labkit.tasks.faults import Faults
from labkit.tasks.lines import Lines
from labkit.tasks.quotes import FIX, Swallowed, records

SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab"}


def read_csv(text: str, faults: Faults, notes: list[str]) -> Iterator[tuple[int, dict]]:
    """Yield the rows of a table with commas; see ``_read``."""
    return _read(text, ",", faults, notes)


def read_tsv(text: str, faults: Faults, notes: list[str]) -> Iterator[tuple[int, dict]]:
    """Yield the rows of a table with tabs; see ``_read``."""
    return _read(text, "\t", faults, notes)


def _read(text: str, separator: str, faults: Faults, notes: list[str]) -> Iterator[tuple[int, dict]]:
    """Yield each row as a dict, with the number of its first line.

    Raises:
        LabkitError: the header can't be read, or has a column twice.
    """
    lines, unreadable = Lines(text), frozenset(faults.rows)
    separator, header = _header(lines, separator, faults.name, notes)
    width = len(header)
    empty: list[int] = []
    literal: list[int] = []
    for first, cells, problem in _records(lines, separator, width, literal):
        if problem:
            faults.add(first, problem, FIX)
        elif not "".join(cells).strip():
            if len(cells) > 1:
                empty.append(first)
        elif len(cells) != width and (len(cells) < width or any(cells[width:])):
            faults.add(first, *_wrong_width(cells, width, separator))
        elif not unreadable or unreadable.isdisjoint(range(first, lines.number + 1)):
            row = dict(zip(header, cells, strict=False))
            row.pop("", None)  # columns without a name
            yield first, row
    if empty:
        notes.append(f"{_rows(empty)} of empty cells only, skipped")
    if literal:
        notes.append(f"{_rows(literal)} with a quote that isn't closed, read as it stands")


def _records(lines: Lines, separator: str, width: int, literal: list[int]) -> Iterator[tuple[int, list[str], str]]:
    """Yield the first line of each row, its cells, and what is wrong with its quotes; ``literal`` takes some lines."""
    start, swallowed = (lines.offset, lines.number), None
    for place, cells, wrong_quote in records(lines, separator):
        first, last, problem = place[1] + 1, lines.number, wrong_quote
        if last > first:
            swallowed = swallowed or Swallowed(lines.text, start, separator, width)
            if count := swallowed.count(lines.since(place), cells):
                problem = f"a quote opens here and closes in line {last}; it seems to swallow {count} rows"
        if not problem:
            yield first, cells, ""
            continue
        as_it_stands = lines.line_at(place).rstrip("\r\n").split(separator)  # reading goes on with the next line
        if separator == "\t" and len(as_it_stands) >= width and not any(as_it_stands[width:]):
            literal.append(first)  # with tabs, many programs write quotes as they stand
            yield first, as_it_stands, ""
        else:
            yield first, [], problem


def _header(lines: Lines, separator: str, name: str, notes: list[str]) -> tuple[str, list[str]]:
    """Return the separator and the names of the columns, without unnamed columns at the end."""
    if told := re.match(r'"?sep=([,;\t])"?\s*?(\r\n?|\n)', lines.text):  # Excel's way to name the separator
        separator = told[1]
        next(lines)
    for place, cells, problem in records(lines, separator):
        if problem:
            raise LabkitError(f"{name}, line {place[1] + 1}: the header has a stray quote.", FIX)
        if any(map(str.strip, cells)):
            break
    else:
        return separator, []
    if len(cells) == 1 and not told:
        other = max(SEPARATORS.keys() - {separator}, key=lambda sign: (cells[0].count(sign), sign))
        if other in cells[0]:
            lines.offset, lines.number = place
            notes.append(f"the columns are separated by {SEPARATORS[other]}s, not {SEPARATORS[separator]}s")
            separator, cells = other, next(records(lines, other))[1]
    header = [cell.strip() for cell in cells]
    while not header[-1]:
        header.pop()
    names = [column for column in header if column]
    if twice := [column for column in dict.fromkeys(names) if names.count(column) > 1]:
        cause = f"The header of {name} has a column twice, {', '.join(twice)}: {', '.join(names)}."
        raise LabkitError(cause, "Rename one of them.")
    for number, column in enumerate(header, 1):
        if not column:
            notes.append(f"column {number} has no name in the header and is left out")
    return separator, header


def _wrong_width(cells: list[str], width: int, separator: str) -> tuple[str, str]:
    """Return what is wrong with a row whose number of cells differs from the header's, and the fix."""
    while len(cells) > width and not cells[-1]:
        cells.pop()
    what = f"{len(cells)} cell{'s' * (len(cells) != 1)} where the header has {width}"
    sign = SEPARATORS[separator]
    if any(cell != cell.lstrip() and cell.lstrip().startswith('"') for cell in cells):
        what += f"; a quote counts only right after the {sign}, without a space"
    return what, f"Put quotes around a text that holds a {sign} or a line break."


def _rows(numbers: list[int]) -> str:
    return f"{len(numbers):,} row{'s' * (len(numbers) != 1)} (the first in line {numbers[0]})"
