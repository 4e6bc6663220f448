"""How large each part of a diagram is, and how it is drawn there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from matplotlib.font_manager import FontProperties
from matplotlib.patches import FancyBboxPatch, Rectangle
from matplotlib.textpath import TextPath

from labkit.display.parts import Bar, Box, Cells, Matrix
from labkit.display.states import INK, STATES
from labkit.errors import LabkitError, shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# All in points, 1/72 inch. Notes can still be read where a figure is shown at half its size.
NAME, NOTE, SIGN = 14, 12, 22
LINE, GAP = 1.4, 9
LONGEST, WIDE, HIGH = 170, 400, 200  # a matrix's longest side, the matrices of a row together, all rows together
ARROW = 30
BAR, THICK = 400, 34  # the longest bar, and how thick each is
BIT, CELL = 3.5, 50  # the height of a bit, and the width of a cell
LEAST, THIN = 1.5, 8  # what is thinner than the first is drawn so thick, and marked; than the second, has hardly an edge
MARK = " *"


class Piece(NamedTuple):
    """What takes a place: its width, its extents above and below the middle of its row, and how it is drawn there."""

    width: float
    above: float
    below: float
    draw: Callable[[Axes, float, float], object]  # from its left end, at the height of its row's middle


class Scales:
    """The scales of one diagram's matrices and bars; ``thicker`` names what these would make too thin to be seen."""

    def __init__(self, rows: Sequence[Sequence[Any]]):
        matrices = [[part for part in row if isinstance(part, Matrix)] for row in rows]
        bars = [part.amounts.items() for row in rows for part in row if isinstance(part, Bar)]
        longest = max((max(m.rows, m.columns) for row in matrices for m in row), default=1)
        wide = max((sum(m.columns for m in row) for row in matrices), default=1) or 1
        high = sum(max((m.rows for m in row), default=0) for row in matrices) or 1
        self.number = min(LONGEST / longest, WIDE / wide, HIGH / high)
        self.amount = BAR / max((sum(size for _, (size, _) in bar) for bar in bars), default=1)
        self.thicker = [m.name for row in matrices for m in row if self.is_thin(m)]
        self.thicker += [name for bar in bars for name, (size, _) in bar if size * self.amount < LEAST]

    def is_thin(self, matrix: Matrix) -> bool:
        """Return whether a matrix would be too thin to be seen."""
        return min(matrix.rows, matrix.columns) * self.number < LEAST


def extent(text: str, size: float, weight: str = "normal") -> tuple[float, float]:
    """Return the width and height of a text of one or more lines, in points."""
    font, lines = FontProperties(weight=weight), text.split("\n") if text else []
    widths = [TextPath((0, 0), line, size=size, prop=font).get_extents().x1 for line in lines if line.strip()]
    return max(widths, default=0.0), LINE * size * len(lines)


def write(ax: Axes, x: float, y: float, text: str, size: float, **how: Any) -> None:
    """Write a text, centred unless told otherwise."""
    if text:
        given = {"ha": "center", "va": "center", "color": INK, "linespacing": 1.2} | how
        ax.text(x, y, text, fontsize=size, **given)


def arrow(ax: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    """Draw an arrow."""
    look = {"arrowstyle": "-|>", "linewidth": 1.4, "mutation_scale": 14, "color": INK, "shrinkA": 0, "shrinkB": 0}
    ax.annotate("", end, start, arrowprops=look)


def piece_of(part: Any, scales: Scales) -> Piece:
    """Return the piece of a part, a text, or a list of them that stand one above another."""
    for kind, make in ((Matrix, _matrix), (Box, _box), (Bar, _bar), (Cells, _cells), (str, _text)):
        if isinstance(part, kind):
            return make(part, scales)
    if isinstance(part, (list, tuple)) and part:
        boxes = [piece_of(each, scales).width for each in part if isinstance(each, Box)]
        return _column([_box(p, scales, max(boxes)) if isinstance(p, Box) else piece_of(p, scales) for p in part])
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
    note = ", ".join(facts) if extent(", ".join(facts), NOTE)[0] < width else "\n".join(facts)
    return _labelled(part.name, note, width, height, [(0, width, part.state, "")])


def _cells(part: Cells, scales: Scales) -> Piece:
    cells = [(CELL * at, CELL, part.state, text) for at, text in enumerate(part.texts)]
    note = f"{part.bits} bits each" + (f", {part.note}" if part.note else "")
    return _labelled(part.name, note, CELL * len(cells), BIT * part.bits, cells)


def _labelled(name: str, note: str, width: float, height: float, cells: Sequence[tuple[float, float, str, str]]):
    """A name, below it rectangles (left end, width, state, text) as high as the piece, and below them a note."""
    full = max(width, extent(name, NAME, "bold")[0], extent(note, NOTE)[0])

    def draw(ax: Axes, x: float, y: float) -> None:
        left = x + (full - width) / 2
        for start, wide, state, text in cells:
            _rectangle(ax, left + start, y - height / 2, wide, height, state)
            _inside(ax, left + start + wide / 2, y, text, NOTE, state)
        write(ax, x + full / 2, y + height / 2 + GAP / 2, name, NAME, weight="bold", va="bottom")
        write(ax, x + full / 2, y - height / 2 - GAP / 2, note, NOTE, va="top")

    return Piece(full, height / 2 + GAP + extent(name, NAME)[1], height / 2 + GAP + extent(note, NOTE)[1], draw)


def _box(part: Box, scales: Scales, least: float = 0) -> Piece:
    sizes = extent(part.name, NAME, "bold"), extent(part.note, NOTE)
    width, height = max(sizes[0][0] + 2 * GAP, sizes[1][0] + 2 * GAP, least), sizes[0][1] + sizes[1][1] + 1.5 * GAP

    def draw(ax: Axes, x: float, y: float) -> None:
        ax.add_patch(
            FancyBboxPatch(
                (x, y - height / 2), width, height, boxstyle="round,pad=0,rounding_size=6", **STATES[part.state]
            )
        )
        _inside(ax, x + width / 2, y + sizes[1][1] / 2, part.name, NAME, part.state, weight="bold")
        _inside(ax, x + width / 2, y - sizes[0][1] / 2, part.note, NOTE, part.state)

    return Piece(width, height / 2, height / 2, draw)


def _bar(part: Bar, scales: Scales) -> Piece:
    items = [(name, max(LEAST, size * scales.amount), state) for name, (size, state) in part.amounts.items()]
    texts = {name: f"{name}\n{part.label(name)}" for name, _, _ in items}
    inside = {name for name, width, _ in items if extent(texts[name], NOTE)[0] + GAP < width}
    outside = [
        f"{name} {part.label(name)}" + MARK * (part.amounts[name][0] * scales.amount < LEAST)
        for name, _, _ in items
        if name not in inside
    ]
    beside = "\n".join(outside)
    length = sum(width for _, width, _ in items)
    wide, high = extent(beside, NOTE)
    half = max(THICK + 8, high) / 2

    def draw(ax: Axes, x: float, y: float) -> None:
        write(ax, x + length + GAP, y, beside, NOTE, ha="left")
        for name, width, state in items:
            _rectangle(ax, x, y - THICK / 2 - 2, width, THICK + 4, state)
            _inside(ax, x + width / 2, y, texts[name] if name in inside else "", NOTE, state)
            x += width

    return Piece(length + (GAP + wide if beside else 0), half, half, draw)


def _text(text: str, scales: Scales) -> Piece:
    if text.startswith("↓"):
        label = text[1:].strip()
        wide, high = extent(label, NOTE)
        half = max(ARROW, high) / 2

        def down(ax: Axes, x: float, y: float) -> None:
            arrow(ax, (x + GAP, y + half), (x + GAP, y - half))
            write(ax, x + 2 * GAP, y, label, NOTE, ha="left")

        return Piece(2 * GAP + wide, half, half, down)
    if text.startswith("→"):
        label = text[1:].strip()
        wide, high = extent(label, NOTE)
        length = max(ARROW, wide + GAP)

        def right(ax: Axes, x: float, y: float) -> None:
            arrow(ax, (x, y), (x + length, y))
            write(ax, x + length / 2, y + 5, label, NOTE, va="bottom")

        return Piece(length, high + 5, 5, right)
    size = SIGN if len(text) == 1 else NOTE
    wide, high = extent(text, size)
    return Piece(wide, high / 2, high / 2, lambda ax, x, y: write(ax, x + wide / 2, y, text, size))


def _rectangle(ax: Axes, x: float, y: float, width: float, height: float, state: str) -> None:
    """Draw a rectangle; a thin one has a thin edge or none, so that its colour is seen and its size is true."""
    look = dict(STATES[state])
    if min(width, height) < THIN:
        look["linewidth"] = 0 if state == "trained" else min(width, height) / 6
    ax.add_patch(Rectangle((x, y), width, height, **look))


def _inside(ax: Axes, x: float, y: float, text: str, size: float, state: str, **how: Any) -> None:
    """Write on a part, over its hatch if it has one."""
    if STATES[state].get("hatch"):
        how["bbox"] = {"facecolor": STATES[state]["facecolor"], "edgecolor": "none", "pad": 1}
    write(ax, x, y, text, size, **how)
