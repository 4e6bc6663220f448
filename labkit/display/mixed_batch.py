"""A concept drawing: one base in memory, two adapters, and a batch whose rows take paths of their own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from matplotlib import pyplot as plt
from matplotlib.patches import Circle, Polygon

from labkit.display.alt import describe, listed
from labkit.display.diagram import TITLE
from labkit.display.drawing import NAME, NOTE, extent, rectangle, rounded, write
from labkit.display.looks import Look, look_of, looks
from labkit.display.states import INK
from labkit.errors import LabkitError, require_count, shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# In points.
MARGIN, ROOM = 16, 8  # around all; below the title
ROW, BOX, SQUARE = 62, 36, 186  # from row to row; a box's height; the side of W
AWAY = 60  # from the edge of W to the middle of an adapter
FORK, PLUS, AFTER = 30, 26, 62  # from the batch to where a path parts; from W to where it joins; from W to the results
TRAPEZOID = (62, 52, 20)  # length, wide end, narrow end


def mixed_batch(
    shape: Sequence[int], rank: int, adapters: Sequence[str] = ("hospital", "law"), title: str = ""
) -> Axes:
    """Draw a batch of three rows in one layer: two take an adapter each, and the one between them the base alone.

    W is drawn once, for it is in memory once. The counts of numbers stand beside W and the adapters; sizes are not to
    scale.

    Args:
        shape: of the layer's weight W: (out, in).
        rank: r of both adapters, whose A is r × in and whose B is out × r.
        adapters: the two names.
        title: above the drawing.

    Returns:
        Axes whose units are points. The description in words belongs to ``axes.figure``.

    Raises:
        LabkitError: these are not two sizes, a rank, and two different names.
    """
    out, into = _sizes(shape)
    count = require_count("rank", rank) * (out + into)
    names = _names(adapters)
    styles = {**looks(names), "base": look_of("base")}
    rows = [Row(names[0], "₁", "₁"), Row("base", "₂", ""), Row(names[1], "₃", "₂")]
    wide, long = (
        max(extent(text, NAME)[0] for text in texts) + 24 for texts in zip(*(r.texts for r in rows), strict=True)
    )
    left = MARGIN + wide + FORK + 24  # of W
    right = left + SQUARE + AFTER
    inner = SQUARE + 2 * (AWAY + TRAPEZOID[1] / 2 + 26)
    width, height = right + long + MARGIN, inner + 2 * MARGIN + extent(title, TITLE)[1] + ROOM * bool(title)
    figure = plt.figure(figsize=(width / 72, height / 72), facecolor="white")
    ax = figure.add_axes((0, 0, 1, 1))
    ax.set(xlim=(0, width), ylim=(0, height))
    ax.axis("off")
    write(ax, width / 2, height - MARGIN, title, TITLE, weight="bold", va="top")
    middle = MARGIN + inner / 2
    for sign, row in zip((1, 0, -1), rows, strict=True):
        look, y = styles[row.name], middle + sign * ROW
        _line(ax, [(MARGIN + wide, y), (right - 8, y)], look)
        ax.add_patch(Polygon([(right - 13, y - 6), (right - 13, y + 6), (right, y)], facecolor=look.ink))
        for x, size, text in zip((MARGIN, right), (wide, long), row.texts, strict=True):
            rounded(ax, x, y - BOX / 2, size, BOX, "data")
            write(ax, x + size / 2, y, text, NAME)
        if sign:
            around = (left - 24, left + SQUARE / 2, left + SQUARE + PLUS)
            _beside(ax, around, (y, middle + sign * (SQUARE / 2 + AWAY)), look, row, f"{count:,} numbers")
    rectangle(ax, left, middle - SQUARE / 2, SQUARE, SQUARE, "frozen")
    write(ax, left + SQUARE / 2, middle + ROW / 2, "W", NAME, weight="bold")
    note = f"{out} × {into}\n{out * into:,} numbers\nin memory once"
    write(ax, left + SQUARE / 2, middle - ROW / 3, note, NOTE)
    head = f"Diagram. {title.rstrip('.')}." if title else "Diagram."
    weight, said = f"one weight W of {out} × {into}, in memory once", listed(map(str, rows))
    describe(figure, f"{head} Three rows of a batch pass {weight}, and two adapters of {count:,} numbers. {said}")
    return ax


@dataclass(frozen=True)
class Row:
    """A row of the batch: who continues it, its index, and that of its adapter, if it has one."""

    name: str
    row: str
    adapter: str

    @property
    def update(self) -> str:
        """The adapter's update."""
        return f"sB{self.adapter}A{self.adapter}"

    @property
    def texts(self) -> tuple[str, str]:
        """What stands on its left and on its right."""
        added = f" + {self.update}x{self.row}" if self.adapter else ""
        return f"x{self.row}   for {self.name}", f"y{self.row} = Wx{self.row}{added}"

    def __str__(self) -> str:
        return f"x{self.row} takes {self.name}: {self.texts[1]}"


def _beside(
    ax: Axes, xs: tuple[float, float, float], ys: tuple[float, float], look: Look, row: Row, count: str
) -> None:
    """Draw a row's way through its adapter: it leaves at the first x, and is added to W's at the last one."""
    (start, centre, end), (near, far) = xs, ys
    _line(ax, [(start, near), (start, far), (end, far), (end, near)], look)
    _adapter(ax, centre, far, look, row.adapter)
    side = 1 if far > near else -1
    write(ax, centre, far + side * (TRAPEZOID[1] / 2 + 14), f"{row.name}: {row.update}, {count}", NOTE)
    ax.add_patch(Circle((end, near), 9, facecolor="white", edgecolor=look.ink, linewidth=1.8, zorder=3))
    write(ax, end, near, "+", NAME, zorder=4)


def _adapter(ax: Axes, x: float, y: float, look: Look, number: str) -> None:
    """Draw A, which narrows to the rank, and B, which widens again (Hu et al., 2021, arXiv:2106.09685, figure 1)."""
    length, wide, narrow = TRAPEZOID
    for name, side in (("A", -1), ("B", 1)):
        inner, outer = x + side * 8, x + side * (8 + length)
        corners = [(inner, y - narrow / 2), (inner, y + narrow / 2), (outer, y + wide / 2), (outer, y - wide / 2)]
        ax.add_patch(Polygon(corners, facecolor=look.tint, edgecolor=INK, linewidth=1.6, zorder=3))
        write(ax, (inner + outer) / 2, y, name + number, NAME, weight="bold", zorder=4)


def _line(ax: Axes, points: Sequence[tuple[float, float]], look: Look) -> None:
    xs, ys = zip(*points, strict=True)
    ax.plot(xs, ys, color=look.ink, linestyle=look.line, linewidth=2.2, zorder=0)


def _sizes(shape: Sequence[int]) -> tuple[int, int]:
    if not isinstance(shape, Sequence) or isinstance(shape, str) or len(shape) != 2:
        raise LabkitError(f"shape is {shown(shape)}.", "Pass the shape of a layer's weight: (out, in).")
    return require_count("out", shape[0]), require_count("in", shape[1])


def _names(adapters: Sequence[str]) -> list[str]:
    names = list(adapters) if isinstance(adapters, Sequence) and not isinstance(adapters, str) else []
    if not all(isinstance(name, str) and name.strip() for name in names) or len({*names}) != 2 or "base" in names:
        raise LabkitError(f"adapters are {shown(adapters)}.", 'Pass two names, such as ("hospital", "law").')
    return names
