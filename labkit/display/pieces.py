"""How large each part of a diagram is, and how it is drawn there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from labkit.display.drawing import GAP, NAME, NOTE, SIGN, THIN, arrow, extent, rectangle, rounded, write, write_on
from labkit.display.parts import Bar, Box, Cells, Matrix
from labkit.errors import LabkitError, shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# In points.
LONGEST, WIDE, HIGH = 170, 400, 170  # at most: a matrix's side, the matrices of a row together, those of all rows
LONG, THICK = 400, 38  # the longest bar, and how thick each is
BIT, CELL, ARROW = 3.75, 50, 30  # the height of a bit, the width of a cell, the least length of an arrow
LEAST = 1.5  # what is thinner is drawn so thick, and marked
MARK = " *"


class Piece(NamedTuple):
    """What takes a place: its width, its extents above and below the middle of its row, and how it is drawn there."""

    width: float
    above: float
    below: float
    draw: Callable[[Axes, float, float], object]  # from its left end, at the height of its row's middle


class Scales:
    """The scales of one diagram's matrices and bars, in points for a number and for a unit of memory.

    Args:
        rows: the parts of each.
    """

    def __init__(self, rows: Sequence[Sequence[Any]]):
        matrices = [[part for part in row if isinstance(part, Matrix)] for row in rows]
        bars = [part for row in rows for part in row if isinstance(part, Bar)]
        longest = max((max(m.rows, m.columns) for row in matrices for m in row), default=1)
        wide = max((sum(m.columns for m in row) for row in matrices if row), default=1)
        high = sum(max(m.rows for m in row) for row in matrices if row) or 1
        self.number = min(LONGEST / longest, WIDE / wide, HIGH / high)
        self.unit = LONG / max((sum(size for size, _ in bar.amounts.values()) for bar in bars), default=1)
        # The names of what these scales would make too thin to be seen.
        self.thin = [m.name for row in matrices for m in row if self.is_thin(m)]
        self.thin += [name for bar in bars for name in bar.amounts if self.is_thin(bar, name)]

    def is_thin(self, part: Matrix | Bar, name: str = "") -> bool:
        """Return whether a matrix, or an amount of a bar, is drawn thicker than to scale."""
        size = min(part.rows, part.columns) * self.number if isinstance(part, Matrix) else self.length(part, name)
        return size < LEAST

    def length(self, bar: Bar, name: str) -> float:
        """Return the length of an amount to scale."""
        return bar.amounts[name][0] * self.unit


def piece_of(part: Any, scales: Scales, least: float = 0) -> Piece:
    """Return the piece of a part, a text, or a list of them that stand one above another; a box is ``least`` wide."""
    if isinstance(part, Matrix):
        return _matrix(part, scales)
    if isinstance(part, Cells):
        cells = [(CELL * at, CELL, text) for at, text in enumerate(part.texts)]
        note = f"{part.bits} bits each" + (f", {part.note}" if part.note else "")
        return _labelled(part.name, note, CELL * len(cells), BIT * part.bits, part.state, cells)
    if isinstance(part, Bar):
        return _bar(part, scales)
    if isinstance(part, Box):
        return _box(part, least)
    if isinstance(part, str):
        return _text(part)
    if isinstance(part, (list, tuple)) and part:
        widest = max(piece_of(each, scales).width if isinstance(each, Box) else 0 for each in part)
        return _column([piece_of(each, scales, widest) for each in part])
    raise LabkitError(f"{shown(part)} can't be drawn.", "Use a Matrix, Box, Bar, Cells, a text, or a list of these.")


def _column(pieces: Sequence[Piece]) -> Piece:
    width = max(piece.width for piece in pieces)
    half = (sum(piece.above + piece.below for piece in pieces) + GAP * (len(pieces) - 1)) / 2

    def draw(ax: Axes, x: float, y: float) -> None:
        y += half
        for piece in pieces:
            piece.draw(ax, x + (width - piece.width) / 2, y - piece.above)
            y -= piece.above + piece.below + GAP

    return Piece(width, half, half, draw)


def _matrix(part: Matrix, scales: Scales) -> Piece:
    width, height = (max(LEAST, side * scales.number) for side in (part.columns, part.rows))
    shape, *facts = part.facts
    facts = [shape + MARK * scales.is_thin(part), *facts]
    one_line = ", ".join(facts)
    note = one_line if extent(one_line, NOTE)[0] < width else "\n".join(facts)
    return _labelled(part.name, note, width, height, part.state, [(0, width, "")])


def _labelled(
    name: str, note: str, width: float, height: float, state: str, cells: Sequence[tuple[float, float, str]]
) -> Piece:
    """Return a name, below it cells (left end, width, text) of the same height, and below them a note."""
    full = max(width, extent(name, NAME, "bold")[0], extent(note, NOTE)[0])

    def draw(ax: Axes, x: float, y: float) -> None:
        left = x + (full - width) / 2
        for start, wide, text in cells:
            rectangle(ax, left + start, y - height / 2, wide, height, state)
            write_on(ax, left + start + wide / 2, y, text, NOTE, state)
        write(ax, x + full / 2, y + height / 2 + GAP, name, NAME, weight="bold", va="baseline")
        write(ax, x + full / 2, y - height / 2 - GAP / 2, note, NOTE, va="top")

    return Piece(full, height / 2 + GAP + extent(name, NAME)[1], height / 2 + GAP + extent(note, NOTE)[1], draw)


def _box(part: Box, least: float) -> Piece:
    (name_wide, name_high), (note_wide, note_high) = extent(part.name, NAME, "bold"), extent(part.note, NOTE)
    width, half = max(name_wide + 2 * GAP, note_wide + 2 * GAP, least), (name_high + note_high + 1.5 * GAP) / 2

    def draw(ax: Axes, x: float, y: float) -> None:
        rounded(ax, x, y - half, width, 2 * half, part.state)
        write_on(ax, x + width / 2, y + note_high / 2, part.name, NAME, part.state, weight="bold")
        write_on(ax, x + width / 2, y - name_high / 2, part.note, NOTE, part.state)

    return Piece(width, half, half, draw)


def _bar(part: Bar, scales: Scales) -> Piece:
    lengths = {name: max(LEAST, scales.length(part, name)) for name in part.amounts}
    # What has no room in its amount stands beside the bar, in the same order.
    inside = {name for name, length in lengths.items() if extent(f"{name}\n{part.label(name)}", NOTE)[0] + GAP < length}
    outside = [
        f"{name} {part.label(name)}{MARK * scales.is_thin(part, name)}" for name in lengths if name not in inside
    ]
    wide, high = extent("\n".join(outside), NOTE)
    half, total = max(THICK, high) / 2, sum(lengths.values())

    def draw(ax: Axes, x: float, y: float) -> None:
        write(ax, x + total + GAP, y, "\n".join(outside), NOTE, ha="left")
        for name, length in lengths.items():
            rectangle(ax, x, y - THICK / 2, length, THICK, part.amounts[name][1])
            if length < THIN:  # without an edge of its own
                ax.plot([x, x], [y - THICK / 2, y + THICK / 2], color="white", linewidth=0.8)
            if name in inside:
                write_on(ax, x + length / 2, y, f"{name}\n{part.label(name)}", NOTE, part.amounts[name][1])
            x += length

    return Piece(total + (GAP + wide if outside else 0), half, half, draw)


def _text(text: str) -> Piece:
    label = text[1:].strip()
    wide, high = extent(label, NOTE)
    if text.startswith("→"):
        length = max(ARROW, wide + GAP)

        def right(ax: Axes, x: float, y: float) -> None:
            arrow(ax, (x, y), (x + length, y))
            write(ax, x + length / 2, y + 5, label, NOTE, va="bottom")

        return Piece(length, high + 5, 5, right)
    if text.startswith("↓"):
        half = max(ARROW, high) / 2

        def down(ax: Axes, x: float, y: float) -> None:
            arrow(ax, (x + GAP, y + half), (x + GAP, y - half))
            write(ax, x + 2 * GAP, y, label, NOTE, ha="left")

        return Piece(2 * GAP + wide, half, half, down)
    size = SIGN if len(text) == 1 else NOTE
    wide, high = extent(text, size)
    return Piece(wide, high / 2, high / 2, lambda ax, x, y: write(ax, x + wide / 2, y, text, size))
