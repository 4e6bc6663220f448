"""What all figures share: the palette, sizes that can be read, and axes without needless ink on a white ground."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.colors import to_hex, to_rgb
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter

from labkit.errors import require_count, require_number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

# Okabe and Ito's "Color Universal Design" (2008): eight colours that the colour-blind can tell apart, too.
PALETTE = {
    "black": "#000000",
    "orange": "#E69F00",
    "sky blue": "#56B4E9",
    "bluish green": "#009E73",
    "yellow": "#F0E442",
    "blue": "#0072B2",
    "vermillion": "#D55E00",
    "reddish purple": "#CC79A7",
}
INK, GREY, PALE = "#262626", "#707070", "#e4e4e4"  # text and axes; lines to compare with; the grid
TEXT, SMALL = 11, 10  # points; no text is smaller, so that a figure shown at half its width can be read


def contrast(color: Any, ground: Any = "white") -> float:
    """Return the contrast of two colours, from 1 to 21, as WCAG 2.2 defines it: lines need 3, text needs 4.5."""
    dark, light = sorted((_luminance(color), _luminance(ground)))
    return (light + 0.05) / (dark + 0.05)


@cache
def darkened(color: str, least: float) -> str:
    """Return the colour, as dark as it must be for a contrast of ``least`` on white."""
    shades = (tuple(percent / 100 * part for part in to_rgb(color)) for percent in range(100, -1, -1))
    return to_hex(next((red, green, blue) for red, green, blue in shades if contrast((red, green, blue)) >= least))


def tinted(color: str, share: float = 0.4) -> str:
    """Return a share of the colour mixed with white, for areas that have something drawn or written on them."""
    red, green, blue = (share * part + 1 - share for part in to_rgb(color))
    return to_hex((red, green, blue))


def figure(
    width: float = 6.5, height: float = 3.6, rows: int = 1, columns: int = 1, **settings: Any
) -> tuple[Figure, Any]:
    """Return a figure and its axes in the course's look, as ``plt.subplots`` does.

    Args:
        width: in inches.
        height: in inches.
        rows: of axes.
        columns: of axes.
        settings: those of ``plt.subplots``, such as ``sharey``.
    """
    width, height = require_number("width", width, above=0), require_number("height", height, above=0)
    rows, columns = require_count("rows", rows), require_count("columns", columns)
    # White, so that it reads in Jupyter's dark theme, too.
    drawing, axes = plt.subplots(
        rows, columns, figsize=(width, height), layout="constrained", facecolor="white", **settings
    )
    for ax in drawing.axes:
        dress(ax)
    return drawing, axes


def axes_for(ax: Axes | None, width: float = 6.5, height: float = 3.6) -> Axes:
    """Return the given axes, or those of a new figure, in the course's look."""
    return figure(width, height)[1] if ax is None else dress(ax)


def dress(ax: Axes) -> Axes:
    """Give axes the course's look."""
    # Set here, not by rcParams: matplotlib reads those when it makes a tick, which can be after a figure is drawn.
    ax.set_facecolor("white")
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color(GREY)
    ax.grid(True)
    ax.set_axisbelow(True)
    ax.tick_params(which="both", labelsize=SMALL, labelcolor=INK, color=GREY, grid_color=PALE, grid_linewidth=0.8)
    for text in (ax.xaxis.label, ax.yaxis.label, ax.title):
        text.set(size=TEXT, color=INK)
    return ax


def legend(ax: Axes, *, columns: int = 0, reverse: bool = False) -> None:
    """Draw the legend outside the axes, where it covers nothing: on the right, or above in so many columns."""
    place: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (1.01, 1)}
    if columns:
        place = {"loc": "lower right", "bbox_to_anchor": (1, 1), "ncols": columns}
    ax.legend(frameon=False, fontsize=SMALL, labelcolor=INK, reverse=reverse, **place)


def end_at_100(ax: Axes, axis: str = "y") -> None:
    """Let an axis of percentages end at 0 and 100 where the margins would lead past them."""
    low, high = getattr(ax, f"get_{axis}lim")()
    getattr(ax, f"set_{axis}lim")(max(low, 0), min(high, 100), auto=True)  # a later curve may still widen it


def plain_log(axis: Axis, low: float, high: float) -> None:
    """Give a logarithmic axis numbers in plain digits where there are too few powers of ten to read values from."""
    if high < 30 * low:
        axis.set_major_locator(MaxNLocator(5) if high < 8 * low else LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter(StrMethodFormatter("{x:,g}"))
        axis.set_minor_formatter(NullFormatter())


def _luminance(color: Any) -> float:
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in to_rgb(color)]
    return float(np.dot((0.2126, 0.7152, 0.0722), linear))
