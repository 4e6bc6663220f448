"""What a diagram is made of: matrices, boxes, bars of memory and cells of numbers, checked when they are made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from labkit.display.states import STATES, WORDS
from labkit.errors import LabkitError, require_count, require_number, shown, unknown


@dataclass(frozen=True)
class Matrix:
    """A matrix, drawn to the scale of all matrices of its diagram.

    Attributes:
        name: above it.
        rows, columns: its shape.
        state: ``"trained"``, ``"frozen"``, ``"quantized"``, ``"data"``, or ``"outline"`` for what is not there itself,
            or not for long: let the note say which.
        note: below its shape and its state.
    """

    name: str
    rows: int
    columns: int
    state: str = "frozen"
    note: str = ""

    def __post_init__(self) -> None:
        for side in ("rows", "columns"):
            object.__setattr__(self, side, require_count(side, getattr(self, side)))
        _check(self.name, self.state)

    @property
    def facts(self) -> list[str]:
        """What stands below it: its shape, its state, and its note, where it has one."""
        return [fact for fact in (f"{self.rows} × {self.columns}", WORDS[self.state], self.note) if fact]

    def __str__(self) -> str:
        return _with(self.name, *self.facts)


@dataclass(frozen=True)
class Box:
    """A box with a name and, below it, a note; its size says nothing."""

    name: str
    note: str = ""
    state: str = "data"

    def __post_init__(self) -> None:
        _check(self.name, self.state)

    def __str__(self) -> str:
        return _with(self.name, self.note, WORDS[self.state])


@dataclass(frozen=True)
class Bar:
    """Amounts of memory side by side, drawn to the scale of all bars of their diagram.

    Attributes:
        amounts: for each name, its size and its state, such as ``{"weights": (538, "trained")}``.
        unit: of the sizes.
    """

    amounts: Mapping[str, tuple[float, str]]
    unit: str = "MB"

    def __post_init__(self) -> None:
        for name, amount in self.amounts.items():
            if not isinstance(amount, (tuple, list)) or len(amount) != 2:
                raise LabkitError(f"{name} has {shown(amount)} for its size and state.", 'Write (538, "trained").')
            size, state = amount
            _check(name, state)
            require_number(f"the size of {name}", size, above=0, remedy="Leave out what takes no memory.")
        if not self.amounts:
            raise LabkitError("A bar without amounts can't be drawn.", "Give at least one name with its size.")

    def label(self, name: str) -> str:
        """Return a size with its unit, in whole units from ten up."""
        size = self.amounts[name][0]
        return f"{size:,.{0 if size >= 10 else 1}f} {self.unit}"

    def __str__(self) -> str:
        return ", ".join(_with(f"{name} {self.label(name)}", WORDS[state]) for name, (_, state) in self.amounts.items())


@dataclass(frozen=True)
class Cells:
    """Numbers in a row of cells, whose height is the count of their bits, to the scale of all cells of the diagram.

    Attributes:
        name: above them.
        values: the numbers; floats are shown with three decimals.
        bits: of each number.
        state: as of a matrix.
        note: below them, after the count of their bits.
    """

    name: str
    values: Sequence[Any]
    bits: int = 32
    state: str = "frozen"
    note: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "bits", require_count("bits", self.bits, high=64))
        _check(self.name, self.state)
        if not len(self.values):
            raise LabkitError("Cells without values can't be drawn.", "Give at least one number.")

    @property
    def texts(self) -> list[str]:
        """The numbers as they stand in the cells."""
        plain = [value.item() if hasattr(value, "item") else value for value in self.values]
        return [f"{value:.3f}".replace("-", "−") if isinstance(value, float) else str(value) for value in plain]

    def __str__(self) -> str:
        return _with(self.name, WORDS[self.state], f"{self.bits} bits each", self.note) + f": {', '.join(self.texts)}"


def _check(name: str, state: str) -> None:
    if not isinstance(name, str) or not name.strip():
        raise LabkitError(f"A part's name must be a text, not {shown(name)}.", "Say what the part is.")
    if state not in STATES:
        raise unknown("state", state, STATES)


def _with(name: str, *facts: str) -> str:
    known = ", ".join(fact for fact in facts if fact)
    return " ".join(f"{name} ({known})".split()) if known else " ".join(name.split())
