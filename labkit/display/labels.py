"""Names beside what they name, instead of a legend. They are placed when the figure is drawn, and cover no other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.patheffects import withStroke
from matplotlib.text import Annotation, Text

from labkit.display.style import INK, SMALL

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.backend_bases import RendererBase

WIDEST = 26  # letters in a line
LEADER = {"arrowstyle": "-", "linewidth": 0.8, "shrinkA": 1, "shrinkB": 3}


class Placer(Artist):
    """Call a function before the texts of the axes are drawn: only then the limits and sizes are known."""

    def __init__(self, place: Callable[[RendererBase], None]):
        super().__init__()
        self.place = place
        self.set_zorder(-10)
        self.set_in_layout(False)

    def draw(self, renderer: RendererBase) -> None:
        """Place the texts."""
        self.place(renderer)


def label_ends(ax: Axes, ends: Mapping[str, tuple[float, float, str]]) -> None:
    """Write the names of curves to the right of the axes, each beside its last point.

    Args:
        ax: where the curves are.
        ends: of each name, the x and y of the curve's last point and the color of the text.
    """
    low, high = sorted(ax.get_ylim())
    texts = [
        write(
            ax,
            name,
            (x, min(max(y, low), high)),
            (1.02, 0.5),
            color,
            textcoords="axes fraction",
            va="center",
            annotation_clip=False,
        )
        for name, (x, y, color) in ends.items()
    ]
    at = [y for _, y, _ in ends.values()]

    def place(renderer: RendererBase) -> None:
        box = ax.bbox
        heights = [Text.get_window_extent(text, renderer).height for text in texts]
        low, high = sorted(ax.get_ylim())
        inside = [min(max(y, low), high) for y in at]
        wanted = [ax.transData.transform((1, y))[1] for y in inside]
        gap = 8 * ax.figure.dpi / 72 / box.width
        for text, y, place in zip(texts, inside, spread(wanted, heights, box.y0, box.y1), strict=True):
            text.xy = (text.xy[0], y)
            text.set_position((1 + gap, (place - box.y0) / box.height))

    ax.add_artist(Placer(place))


def row_above(ax: Axes, starts: Mapping[str, float]) -> None:
    """Write names above the axes, each from its x on, or as near to it as the others allow."""
    texts = [
        write(ax, name, (x, 1), (0, 1.02), INK, xycoords=ax.get_xaxis_transform(), textcoords="axes fraction")
        for name, x in starts.items()
    ]

    def place(renderer: RendererBase) -> None:
        box, point = ax.bbox, ax.figure.dpi / 72
        widths = [Text.get_window_extent(text, renderer).width + 6 * point for text in texts]
        wanted = [
            ax.transData.transform((x, 0))[0] + width / 2 for x, width in zip(starts.values(), widths, strict=True)
        ]
        for text, width, middle in zip(texts, widths, spread(wanted, widths, box.x0, box.x1), strict=True):
            text.set_position(((middle - width / 2 - box.x0) / box.width, 1 + 8 * point / box.height))

    ax.add_artist(Placer(place))


def spread(wanted: Sequence[float], heights: Sequence[float], low: float, high: float) -> list[float]:
    """Return places as near to the wanted ones as texts of these heights can stand without touching.

    They stay between ``low`` and ``high`` unless all together are higher.
    """
    order = np.argsort(wanted, kind="stable")
    places = np.array(wanted, dtype=float)
    ceiling = max(high, low + sum(heights))
    floor = low
    for index in order:
        places[index] = max(places[index], floor + heights[index] / 2)
        floor = places[index] + heights[index] / 2
    for index in order[::-1]:
        places[index] = min(places[index], ceiling - heights[index] / 2)
        ceiling = places[index] - heights[index] / 2
    return places.tolist()


def wrapped(name: str) -> str:
    """Return a name in lines that leave room for the drawing."""
    lines = str(name).split("\n")
    return "\n".join(
        fill(line, WIDEST, break_long_words=any(len(word) > 40 for word in line.split())) for line in lines
    )


def room(names: Iterable[str], least: float) -> float:
    """Return the height of a row for each name in inches: rows are as high as the names need, or as ``least``."""
    lines = [wrapped(name).count("\n") + 1 for name in names]
    return len(lines) * max(least, 0.19 * max(lines, default=1))


def write(
    ax: Axes, name: str, xy: tuple[float, float], at: tuple[float, float], color: str, **settings: Any
) -> Annotation:
    """Write a name at a place, with a line from it to the point ``xy``."""
    leader = {**LEADER, "color": color, "alpha": 0.6}
    halo = [withStroke(linewidth=3, foreground="white")]
    style: dict[str, Any] = {"color": color, "fontsize": SMALL, "path_effects": halo, "zorder": 4}
    return ax.annotate(wrapped(name), xy, at, arrowprops=leader, **style, **settings)
