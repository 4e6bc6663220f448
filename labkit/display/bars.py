"""Draw bars of plain numbers, their values beside them, and how errors are spread."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from labkit.display.alt import describe, listed, number
from labkit.display.labels import wrapped
from labkit.display.looks import looks
from labkit.display.style import GREY, INK, SMALL, axes_for, legend

if TYPE_CHECKING:
    from matplotlib.axes import Axes


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
    groups = {name: value if isinstance(value, Mapping) else {"": value} for name, value in values.items()}
    parts = list(dict.fromkeys(part for group in groups.values() for part in group))
    rows = len(groups) * (1 if stacked else len(parts))
    ax = axes_for(ax, height=1.3 + 0.34 * rows)
    grouped = parts != [""]
    styles = looks(parts if grouped else groups)
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
            ax.bar_label(drawn, [number(size) for size in sizes], padding=4, color=INK, fontsize=SMALL)
        left = left + np.nan_to_num(sizes)
    if stacked:
        ax.bar_label(drawn, [number(size) for size in left], padding=4, color=INK, fontsize=SMALL)
    if mark is not None:
        ax.axvline(mark, color=GREY, linestyle=":", linewidth=1.8)
    ax.set_yticks(range(len(groups)), [wrapped(name) for name in groups])
    ax.set(xlabel=xlabel, xscale="log" if log else "linear")
    ax.grid(visible=False, axis="y")
    if not log:
        ax.margins(x=0.15)  # room for the numbers
    ax.invert_yaxis()
    if grouped:
        legend(ax, columns=2)
    said = [
        f"{name} " + ", ".join(f"{part} {number(value)}".strip() for part, value in group.items())
        for name, group in groups.items()
    ]
    kind = "Stacked bars" if stacked else "Bar chart"
    scale = ", on a logarithmic scale" if log and "log" not in xlabel else ""
    describe(ax, f"{kind}: {xlabel}{scale}. {listed(said)}" + (f" A line marks {number(mark)}." if mark else ""))
    return ax


def errors(percent: Mapping[str, Sequence[float]], xlabel: str, ax: Axes | None = None) -> Axes:
    """Draw how errors in % are spread: boxes hold the middle half of them, and their whiskers reach to the ends.

    Args:
        percent: the errors by the name of who made them.
        xlabel: label of the axis, with its unit; it is linear from -1 to 1, and logarithmic beyond.
        ax: where to draw.
    """
    ax = axes_for(ax, height=1.4 + 0.5 * len(percent))
    boxes = ax.boxplot(
        list(percent.values()),
        orientation="horizontal",
        whis=(0, 100),
        widths=0.5,
        patch_artist=True,
        medianprops={"color": INK, "linewidth": 2},
    )
    for patch, look in zip(boxes["boxes"], looks(percent).values(), strict=True):
        patch.set(facecolor=look.tint, edgecolor=look.ink)
    ax.set_yticks(range(1, len(percent) + 1), [wrapped(name) for name in percent])
    ax.axvline(0, color=GREY, linestyle=":")
    ax.set(xlabel=xlabel, xscale="symlog")
    low, high = (max(1, abs(end)) for end in ax.get_xlim())
    ticks = [
        *(-(10**power) for power in range(int(np.ceil(np.log10(low))), -1, -1)),
        0,
        *(10**power for power in range(int(np.ceil(np.log10(high))) + 1)),
    ]
    ax.set_xticks(ticks, [f"{tick:g}".replace("-", "−") for tick in ticks])
    ax.grid(visible=False, axis="y")
    said = [
        f"{name} from {number(min(each))} to {number(max(each))}, median {number(float(np.median(each)))}"
        for name, each in percent.items()
    ]
    describe(ax, f"Box plots: {xlabel}. {listed(said)}")
    return ax
