"""Draw bars of plain numbers, and their values beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.patheffects import withStroke

from labkit.display.alt import describe, listed, number
from labkit.display.labels import label_ends, room, wrapped
from labkit.display.looks import look_of, looks, method_look
from labkit.display.style import GREY, INK, SMALL, axes_for, legend
from labkit.errors import require_number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.container import BarContainer


def bars(
    values: Mapping[str, float | Mapping[str, float]],
    xlabel: str,
    *,
    stacked: bool = False,
    log: bool = False,
    mark: float | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw a bar for each number, which stands beside it.

    Args:
        values: the number of each bar by its name, or those of a group of bars by the names of its parts.
        xlabel: label of the axis, with its unit.
        stacked: whether the parts of a group add up; otherwise, they are bars of their own.
        log: whether the axis is logarithmic.
        mark: where a dotted line is drawn, to compare with.
        ax: where to draw.
    """
    mark = None if mark is None else require_number("mark", mark, low=0)
    groups = {name: value if isinstance(value, Mapping) else {"": value} for name, value in values.items()}
    parts = list(dict.fromkeys(part for group in groups.values() for part in group))
    ax = axes_for(ax, height=1.3 + room(groups, 0.34 * (1 if stacked else len(parts))))
    grouped = parts != [""]
    # Bars of their own have their names beside them, and need no colours unless they are methods.
    styles = looks(parts) if grouped else {name: method_look(name) or look_of("") for name in groups}
    height = 0.8 if stacked else 0.8 / len(parts)
    left = np.zeros(len(groups))
    for place, part in enumerate(parts):
        sizes = np.array([group.get(part, np.nan) for group in groups.values()], dtype=float)
        offset = 0.0 if stacked else height * (place - (len(parts) - 1) / 2)
        chosen = [styles[part if grouped else name] for name in groups]
        drawn = ax.barh(np.arange(len(groups)) + offset, sizes, height, left=left if stacked else None, label=part)
        for bar, look in zip(drawn, chosen, strict=True):
            bar.set(facecolor=look.tint, edgecolor=look.ink, hatch=look.hatch if grouped else "")
        if not stacked:
            _write(ax, drawn, sizes)
        left = left + np.nan_to_num(sizes)
    if stacked:
        _write(ax, drawn, left)
    if mark is not None:
        ax.axvline(mark, color=GREY, linestyle=":", linewidth=1.8)
    ax.set_yticks(range(len(groups)), [wrapped(name) for name in groups])
    ax.set(xlabel=xlabel, xscale="log" if log else "linear")
    ax.grid(visible=False, axis="y")
    low, high = ax.get_xlim()
    if log:  # from a power of ten on; and room for the numbers
        low = 1 if low >= 1 else 10 ** np.floor(np.log10(low))
        ax.set_xlim(low, high * (high / low) ** 0.15)
    else:
        room_beside = 0.1 * (high - low)  # for the numbers
        ax.set_xlim(low - room_beside if low < 0 else low, high + room_beside)
    ax.invert_yaxis()
    if grouped:
        legend(ax, columns=2)
    said = [
        f"{name} " + ", ".join(f"{part} {number(value)}".strip() for part, value in group.items())
        for name, group in groups.items()
    ]
    kind = "Stacked bars" if stacked else "Bar chart"
    scale = ", on a logarithmic scale" if log and "log" not in xlabel else ""
    describe(
        ax, f"{kind}: {xlabel}{scale}. {listed(said)}" + (f" A line marks {number(mark)}." if mark is not None else "")
    )
    return ax


def columns(
    values: Sequence[float],
    xlabel: str,
    ylabel: str,
    *,
    mark: float | None = None,
    name: str = "",
    ax: Axes | None = None,
) -> Axes:
    """Draw an upright bar for each number, which has its position below it.

    Args:
        values: the numbers.
        xlabel: what the positions are.
        ylabel: what the numbers are, with their unit.
        mark: where a dotted line is drawn, to compare with.
        name: of that line.
        ax: where to draw.
    """
    mark = None if mark is None else require_number("mark", mark, low=0)
    ax = axes_for(ax, height=2.8)
    look = look_of("")
    ax.bar(range(len(values)), values, color=look.tint, edgecolor=look.ink)
    ax.set(xlabel=xlabel, ylabel=ylabel, xticks=range(len(values)))
    ax.grid(visible=False, axis="x")
    said = listed(f"{number(value)} at {place}" for place, value in enumerate(values))
    if mark is not None:
        ax.axhline(mark, color=INK, linestyle=":", linewidth=1.8)
        label_ends(ax, {name: (len(values) - 1, mark, INK)})
        said += f" A line marks {number(mark)}: {name}."
    describe(ax, f"Bar chart: {ylabel} over {xlabel}. {said}")
    return ax


def _write(ax: Axes, bars: BarContainer, values: np.ndarray) -> None:
    said = [f"{x:,.{2 if abs(x) < 10 else 1 if abs(x) < 100 else 0}f}" if abs(x) >= 0.1 else number(x) for x in values]
    halo = [withStroke(linewidth=3, foreground="white")]
    ax.bar_label(bars, said, padding=4, color=INK, fontsize=SMALL, path_effects=halo)
