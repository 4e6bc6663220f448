"""Quotes in tables: rows of several lines, and rows that a stray quote has swallowed."""

from __future__ import annotations

import csv
from collections.abc import Iterator

from labkit.tasks.lines import Lines, Place

FIX = 'Put quotes around a whole text or not at all; inside it, write each twice: "a ""word""".'
MOST_LABELS = 1000  # a column with more values is free text


def records(lines: Lines, separator: str) -> Iterator[tuple[Place, list[str], str]]:
    """Yield each row: where it begins, its cells, and what is wrong with its quotes.

    After a wrong quote, reading goes on with the next line, because the quote has swallowed whole rows.
    """
    reader = csv.reader(lines, delimiter=separator, strict=True)  # otherwise it changes the text around a stray quote
    while True:
        place = lines.offset, lines.number
        try:
            cells = next(reader, None)
        except csv.Error as problem:
            cells, what = _long_row(reader, lines, place) if "limit" in str(problem) else ([], str(problem))
            if what:
                what = _why(what, place[1] + 1, lines.number)
                lines.line_at(place)
                yield place, [], what
                continue
        if cells is None:
            return
        yield place, cells, ""


def _long_row(reader: Iterator[list[str]], lines: Lines, place: Place) -> tuple[list[str], str]:
    """Return the cells of a row with a text longer than the reader's limit, and what is wrong with it."""
    lines.offset, lines.number = place
    limit = csv.field_size_limit(len(lines.text))  # no text can be longer
    try:
        return next(reader), ""
    except csv.Error as problem:
        return [], str(problem)
    finally:
        csv.field_size_limit(limit)


def _why(problem: str, first: int, last: int) -> str:
    if "end of data" in problem:
        return f"a quote opens here and isn't closed; it swallows the lines up to {last}"
    where = "" if first == last else f" in line {last}; it swallows the lines between"
    return f"a quote opens here and is closed in the middle of a text{where}"


class Swallowed:
    """Tells a text of several lines from rows that a stray quote has swallowed, up to the next quote.

    A line looks like a row if it has as many cells as the header, and labels that other rows have too. If no column
    holds labels, all lines must look like rows; and in a table in which many texts have several lines, none is doubted.
    """

    def __init__(self, text: str, place: Place, separator: str, width: int):
        self.separator, self.width = separator, width
        self.labels: dict[int, set[str]] = {}  # by column
        rows = several = 0
        values: list[set[str]] = [set() for _ in range(width)]
        lines = Lines(text, place)
        for (_, begin), cells, _ in records(lines, separator):
            if lines.number > begin + 1:
                several += 1
            elif len(cells) >= width:
                rows += 1
                for seen, cell in zip(values, cells, strict=False):
                    if len(seen) <= MOST_LABELS:
                        seen.add(cell)
        self.are_usual = several > 1 + rows // 100
        for column, seen in enumerate(values):
            if len(seen) <= min(MOST_LABELS, rows // 2):
                self.labels[column] = seen

    def count(self, lines: list[str], cells: list[str]) -> int:
        """Return how many rows a row of several lines seems to have swallowed."""
        last_column = all("\n" not in cell and "\r" not in cell for cell in cells[: self.width - 1])
        # If the last cell has several lines, the first line always looks like a row; otherwise the last one does.
        inner = [self._cells(line) for line in (lines[1:] if last_column else lines[:-1])]
        if self.labels:
            return sum(map(self._has_labels, inner))
        rows = [row for line in lines if (row := self._cells(line))]
        if len(rows) < len(lines):
            return 0
        if self.separator == "\t":  # texts hold commas, but hardly ever tabs
            return len(inner)
        clean = all(cell and cell == cell.strip() for row in rows for cell in row)
        return len(inner) if clean and len(lines) > 2 and not self.are_usual else 0

    def _has_labels(self, row: list[str]) -> bool:
        others = [cell for column, cell in enumerate(row) if column not in self.labels]
        if any(cell != cell.lstrip() for cell in others):  # in prose a space follows a comma, in tables none does
            return False
        labels = [row[column] for column in self.labels] if row else []
        return any(labels) and all(
            label in self.labels[column] for column, label in zip(self.labels, labels, strict=True)
        )

    def _cells(self, line: str) -> list[str]:
        cells = line.replace('"', "").split(self.separator)
        return cells[: self.width] if len(cells) >= self.width and not any(cells[self.width :]) else []
