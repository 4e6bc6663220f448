"""What is wrong with a learner's data, by line: collected first, then raised all at once."""

from __future__ import annotations

import heapq
from collections.abc import Callable

from labkit.errors import LabkitError

SHOWN = 20  # more are probably one fault of the whole file, and nobody reads them all


class Faults:
    """The faults of one data set.

    Args:
        name: what the data set is called in messages.
        place: how to find a row by its number, counted from 1: a text with ``{number}``, or with ``{index}``, counted
            from 0; or a function of the number.

    Attributes:
        rows: the numbers of the rows that have faults.
        cut: whether the data after one of them can't be read at all.
    """

    def __init__(self, name: str, place: str | Callable[[int], str] = "line {number}"):
        self.name, self.place = name, place
        self.rows: set[int] = set()
        self.cut = False
        self._count = 0
        self._found: list[tuple[int, str, str]] = []

    def __len__(self) -> int:
        return self._count

    def add(self, number: int, what: str, fix: str) -> None:
        """Note what is wrong in a line (or row, counted from 1) and what to do about it."""
        self.rows.add(number)
        self._count += 1
        self._found.append((number, what, fix))
        if len(self._found) > 1000:  # a million faults take little more memory than a thousand
            self._found = self._first()

    def where(self, number: int) -> str:
        """Return how to find a row: ``"line 7"``, say, or ``"row 7 (dataset[6])"``."""
        return self.place.format(number=number, index=number - 1) if isinstance(self.place, str) else self.place(number)

    def listed(self) -> list[str]:
        """Return the first twenty faults in the order of the file, and how many more there are."""
        lines = [f"{self.where(number)}: {what}" for number, what, _ in self._first()]
        more = len(self) - len(lines)
        return [*lines, f"and {more:,} more"] if more else lines

    def raise_any(self, remedy: str = "") -> None:
        """Raise one error that lists the faults, if there are any, and how to fix them; ``remedy`` is another way."""
        if self._found:
            fixes = dict.fromkeys(fix for _, _, fix in self._first())
            raise LabkitError(f"{self.name}, " + "\n  ".join(self.listed()), " ".join([*fixes, remedy]).strip())

    def _first(self) -> list[tuple[int, str, str]]:
        return heapq.nsmallest(SHOWN, self._found, key=lambda fault: fault[0])
