"""What one pays for accuracy: methods as points, and which of them no other beats in both."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib import pyplot as plt

from labkit.display.plots import MARKERS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from pandas import DataFrame


def front(costs: Sequence[float], gains: Sequence[float]) -> list[bool]:
    """Say of each point whether it is on the Pareto front: no other costs as little or less and gains more, or costs
    less and gains as much. A point without a cost (NaN) is not.
    """
    points = list(zip(costs, gains, strict=True))
    beaten = [any((c <= cost and g > gain) or (c < cost and g >= gain) for c, g in points) for cost, gain in points]
    return [not (math.isnan(cost) or below) for cost, below in zip(costs, beaten, strict=True)]


def plot_pareto(rows: DataFrame, x: str, by: str, *, xlabel: str, log: bool = True, ax: Axes | None = None) -> Axes:
    """Draw the accuracy of each method over what it costs; the Pareto front is a line through dark points.

    A point is the mean over the runs. Its bars reach from the lowest run to the highest, in both directions.

    Args:
        rows: one row for each run, of one model and task, with the columns ``accuracy``, ``x`` and ``by``.
        x: the cost; less is better.
        by: the column with the methods' names.
        xlabel: what the axis says, with its unit.
        log: whether the axis has powers of ten.
        ax: where to draw.
    """
    ax = ax or plt.subplots(figsize=(6, 4), layout="constrained")[1]
    groups = rows.dropna(subset=[x]).groupby(by, sort=False)
    means = groups[[x, "accuracy"]].mean()
    lowest, highest = (groups[[x, "accuracy"]].agg(end) for end in ("min", "max"))
    best = np.array(front(means[x], means["accuracy"]))
    line = means[best].sort_values(x)
    ax.step(line[x], 100 * line["accuracy"], where="post", color="0.6", linewidth=1, zorder=0)
    for number, name in enumerate(means.index):
        mean = means.loc[name]
        below, above = mean - lowest.loc[name], highest.loc[name] - mean
        color = "0.1" if best[number] else "0.55"
        marker = MARKERS[number % len(MARKERS)]
        at = mean[x], 100 * mean["accuracy"]
        bars = {"xerr": [[below[x]], [above[x]]], "yerr": [[100 * below["accuracy"]], [100 * above["accuracy"]]]}
        ax.errorbar(*at, **bars, fmt=marker, color=color, markersize=6, elinewidth=1, capsize=2)
        ax.annotate(name, at, (6, 5), textcoords="offset points", fontsize=8, color=color)
    if log:
        ax.set_xscale("log")
    ax.margins(x=0.15, y=0.1)
    ax.set(xlabel=xlabel, ylabel="accuracy (%): mean, lowest and highest seed")
    return ax
