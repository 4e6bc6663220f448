"""Draw accuracy over cost: methods as points, and the Pareto front, which no other method beats in both."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.text import Annotation
from matplotlib.ticker import LogFormatter

from labkit.display.style import MARKERS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from pandas import DataFrame

LETTER = 5.2  # points; about the width of a letter in a label


def front(costs: Sequence[float], gains: Sequence[float]) -> list[bool]:
    """Return for each point whether it is on the Pareto front.

    It is unless another one costs no more and gains more, or costs less and gains no less. A point without a cost
    (NaN) isn't.
    """
    points = list(zip(costs, gains, strict=True))
    beaten = [any((c <= cost and g > gain) or (c < cost and g >= gain) for c, g in points) for cost, gain in points]
    return [not (math.isnan(cost) or below) for cost, below in zip(costs, beaten, strict=True)]


def pareto(rows: DataFrame, x: str, by: str, *, xlabel: str, log: bool = True, ax: Axes | None = None) -> Axes:
    """Draw the accuracy of each method over what it costs; the Pareto front is a line through dark points.

    A point is the mean of a method's runs. Its bars reach from the lowest run to the highest, in both directions.

    Args:
        rows: one row for each run, of one model and task, with the columns ``accuracy``, ``x`` and ``by``.
        x: the cost; less is better.
        by: the column with the methods' names.
        xlabel: label of the axis, with its unit.
        log: whether the axis is logarithmic.
        ax: where to draw.
    """
    ax = ax or plt.subplots(figsize=(6, 4), layout="constrained")[1]
    groups = rows.dropna(subset=[x]).groupby(by, sort=False)
    means = groups[[x, "accuracy"]].mean()
    lowest, highest = (groups[[x, "accuracy"]].agg(end) for end in ("min", "max"))
    best: np.ndarray = np.array(front(means[x].to_list(), means["accuracy"].to_list()))
    line = means[best].sort_values(x)
    ax.step(line[x], 100 * line["accuracy"], where="post", color="0.6", linewidth=1, zorder=0)
    for number, name in enumerate(means.index):
        mean = means.loc[name]
        below, above = mean - lowest.loc[name], highest.loc[name] - mean
        bars: dict[str, Any] = {
            "xerr": [[below[x]], [above[x]]],
            "yerr": [[100 * below["accuracy"]], [100 * above["accuracy"]]],
        }
        marker = MARKERS[number % len(MARKERS)]
        ax.errorbar(
            mean[x], 100 * mean["accuracy"], **bars, fmt=marker, color=_grey(best[number]), elinewidth=1, capsize=2
        )
    if log:
        ax.set_xscale("log")
        if means[x].max() < 30 * means[x].min():  # too few powers of ten to read values from
            ax.xaxis.set_major_formatter(LogFormatter(labelOnlyBase=False))
            ax.xaxis.set_minor_formatter(LogFormatter(minor_thresholds=(1.5, 0.5)))
    ax.margins(x=0.15, y=0.1)
    ax.set(xlabel=xlabel, ylabel="accuracy (%): mean, lowest and highest seed")
    # This sets the limits and the size of the axes, which decide where labels fit.
    ax.figure.canvas.figure.draw_without_rendering()
    for chosen in (True, False):  # labels on the front choose their places first
        points = means[best == chosen]
        _label(
            ax,
            dict(zip(points.index, zip(points[x], 100 * points["accuracy"], strict=True), strict=True)),
            _grey(chosen),
        )
    return ax


def _grey(best: bool) -> str:
    return "0.1" if best else "0.55"


def _label(ax: Axes, points: dict[str, tuple[float, float]], color: str) -> None:
    """Write names beside points, each at the nearest place where it covers no other name."""
    scale = 72 / ax.figure.dpi
    texts = [text for text in ax.texts if isinstance(text, Annotation)]
    taken = [(ax.transData.transform(text.xy) * scale + text.get_position(), len(text.get_text())) for text in texts]
    for name, at in points.items():
        width = LETTER * len(name)
        places = [(dx, dy) for far in range(0, 60, 10) for dx in (6, -6 - width) for dy in (4 + far, -11 - far)]
        corner = ax.transData.transform(at) * scale
        free = [place for place in places if not any(_covers(corner + place, width, *other) for other in taken)]
        place = (free or places)[0]
        taken.append((corner + place, len(name)))
        line = {"arrowstyle": "-", "color": "0.75", "linewidth": 0.6, "shrinkA": 0, "shrinkB": 3}
        far = place not in places[:4]
        ax.annotate(
            name, at, place, textcoords="offset points", fontsize=8, color=color, arrowprops=line if far else None
        )


def _covers(corner: np.ndarray, width: float, other: np.ndarray, letters: int) -> bool:
    (dx, dy) = corner - other
    return abs(dy) < 9 and -width < dx < LETTER * letters
