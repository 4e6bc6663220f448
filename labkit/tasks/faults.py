"""What is wrong with a learner's data, by line: collected first, then raised all at once."""

from __future__ import annotations

from labkit.errors import LabkitError

SHOWN = 20  # more than that is one fault of the whole file, and nobody reads on


class Faults:
    """The faults of one data set.

    Args:
        name: what the data set is called in messages.
        unit: ``"line"`` where the numbers are those of lines in a file, ``"row"`` for a data set in memory.
    """

    def __init__(self, name: str, unit: str = "line"):
        self.name, self.unit = name, unit
        self._found: list[tuple[int, str, str]] = []

    def __len__(self) -> int:
        return len(self._found)

    def add(self, number: int, what: str, fix: str) -> None:
        """Note what is wrong in a line (or row, counted from 1) and what to do about it."""
        self._found.append((number, what, fix))

    def where(self, number: int) -> str:
        """Return how to find a line or row: ``"line 7"``, or ``"row 7 (dataset[6])"``."""
        return f"line {number}" if self.unit == "line" else f"row {number} (dataset[{number - 1}])"

    def raise_any(self) -> None:
        """Raise one error that lists the first twenty faults in the order of the file, if there are any."""
        if not self._found:
            return
        found = sorted(self._found, key=lambda fault: fault[0])
        lines = [f"{self.where(number)}: {what}" for number, what, _ in found[:SHOWN]]
        if len(found) > SHOWN:
            lines.append(f"and {len(found) - SHOWN:,} more")
        fixes = dict.fromkeys(fix for _, _, fix in found[:SHOWN])
        raise LabkitError(f"{self.name}, " + "\n  ".join(lines), " ".join(fixes))
