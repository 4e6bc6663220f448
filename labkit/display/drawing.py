"""Texts, arrows and rectangles of a drawing whose unit is the point, 1/72 inch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from matplotlib.font_manager import FontProperties
from matplotlib.patches import FancyBboxPatch, Rectangle
from matplotlib.textpath import TextPath

from labkit.display.states import INK, STATES

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NAME, NOTE, SIGN, LINE = 14, 12, 22, 1.4  # sizes of text, which can be read in half a figure's size; a line's height
GAP = 9
THIN = 8  # a thinner rectangle has hardly an edge


def extent(text: str, size: float, weight: str = "normal") -> tuple[float, float]:
    """Return the width and height of a text of one or more lines."""
    font, lines = FontProperties(weight=weight), text.split("\n") if text else []
    widths = [TextPath((0, 0), line, size=size, prop=font).get_extents().x1 for line in lines if line.strip()]
    return max(widths, default=0.0), LINE * size * len(lines)


def write(ax: Axes, x: float, y: float, text: str, size: float, **how: Any) -> None:
    """Write a text, centred unless told otherwise."""
    if text:
        given: dict[str, Any] = {"ha": "center", "va": "center", "color": INK, "linespacing": 1.2}
        ax.text(x, y, text, fontsize=size, **given | how)


def write_on(ax: Axes, x: float, y: float, text: str, size: float, state: str, **how: Any) -> None:
    """Write on a part, over its hatch if it has one."""
    if STATES[state].get("hatch"):
        how["bbox"] = {"facecolor": STATES[state]["facecolor"], "edgecolor": "none", "pad": 1}
    write(ax, x, y, text, size, **how)


def arrow(ax: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    """Draw an arrow."""
    look = {"arrowstyle": "-|>", "linewidth": 1.4, "mutation_scale": 14, "color": INK, "shrinkA": 0, "shrinkB": 0}
    ax.annotate("", end, start, arrowprops=look)


def rectangle(ax: Axes, x: float, y: float, width: float, height: float, state: str) -> None:
    """Draw a rectangle from its lower left corner.

    A thin one has a thin edge or none, so that its colour is seen and its size is true.
    """
    look = dict(STATES[state])
    if min(width, height) < THIN:
        look["linewidth"] = 0 if state == "trained" else min(width, height) / 6
    ax.add_patch(Rectangle((x, y), width, height, **look))


def rounded(ax: Axes, x: float, y: float, width: float, height: float, state: str) -> None:
    """Draw a rectangle with round corners, from its lower left corner."""
    ax.add_patch(FancyBboxPatch((x, y), width, height, boxstyle="round,pad=0,rounding_size=6", **STATES[state]))
