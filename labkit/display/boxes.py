"""Draw how errors are spread."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from labkit.display.alt import describe, listed, number
from labkit.display.labels import room, wrapped
from labkit.display.looks import looks
from labkit.display.style import GREY, INK, axes_for

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def errors(percent: Mapping[str, Sequence[float]], xlabel: str, ax: Axes | None = None) -> Axes:
    """Draw how errors in % are spread: boxes hold the middle half of them, and their whiskers reach to the ends.

    Args:
        percent: the errors by the name of who made them.
        xlabel: label of the axis, with its unit; it is linear from -1 to 1, and logarithmic beyond.
        ax: where to draw.
    """
    ax = axes_for(ax, height=1.4 + room(percent, 0.5))
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
    ax.invert_yaxis()
    ax.set_xticks(ticks, [f"{tick:g}".replace("-", "−") for tick in ticks])
    ax.grid(visible=False, axis="y")
    said = [
        f"{name} from {number(min(each))} to {number(max(each))}, median {number(float(np.median(each)))}"
        for name, each in percent.items()
    ]
    describe(ax, f"Box plots: {xlabel}. {listed(said)}")
    return ax
