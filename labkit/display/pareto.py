"""Draw accuracy over cost: methods as points, and the Pareto front, which no other method beats in both."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from labkit.display.alt import describe, listed, number
from labkit.display.curves import interval
from labkit.display.looks import looks
from labkit.display.points import label_points
from labkit.display.runs import draw_runs, point
from labkit.display.style import GREY, axes_for, end_at_100, plain_log

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from pandas import DataFrame

    from labkit.evaluation import Evaluation


def front(costs: Sequence[float], gains: Sequence[float]) -> list[bool]:
    """Return for each point whether it is on the Pareto front.

    It is unless another one costs no more and gains more, or costs less and gains no less. A point without a cost
    (NaN) isn't.
    """
    points = list(zip(costs, gains, strict=True))
    beaten = [any((c <= cost and g > gain) or (c < cost and g >= gain) for c, g in points) for cost, gain in points]
    return [not (math.isnan(cost) or below) for cost, below in zip(costs, beaten, strict=True)]


def pareto(rows: DataFrame, x: str, by: str, *, xlabel: str, log: bool = True, ax: Axes | None = None) -> Axes:
    """Draw the accuracy of each method over what it costs; the Pareto front is a line through filled points.

    A point is the mean of a method's runs. Its bars reach from the lowest run to the highest, in both directions.

    Args:
        rows: one row for each run, of one model and task, with the columns ``accuracy``, ``x`` and ``by``.
        x: the cost; less is better.
        by: the column with the methods' names.
        xlabel: label of the axis, with its unit.
        log: whether the axis is logarithmic.
        ax: where to draw.
    """
    ax = axes_for(ax, height=4.4)
    rows = rows.dropna(subset=[x]).assign(accuracy=100 * rows["accuracy"])
    means = rows.groupby(by, sort=False)[[x, "accuracy"]].mean()
    best = front(means[x].to_list(), means["accuracy"].to_list())
    line = means[best].sort_values(x)
    ax.step(line[x], line["accuracy"], where="post", color=GREY, linewidth=1, zorder=0)
    draw_runs(ax, rows, x, "accuracy", by, filled=[*line.index])
    if log:
        ax.set_xscale("log")
        plain_log(ax.xaxis, means[x].min(), means[x].max())
    ax.margins(x=0.15, y=0.12)
    end_at_100(ax)
    ax.set(xlabel=xlabel, ylabel="accuracy (%): mean, lowest and highest seed")
    said = listed(f"{name} {gain:.1f} at {number(cost)}" for name, cost, gain in line.itertuples())
    beaten = ", ".join(name for name in means.index if name not in line.index) or "none"
    describe(ax, f"Dots: mean accuracy (%) over {xlabel}. On the Pareto front: {said} Beaten: {beaten}.")
    return ax


def tradeoff(
    points: Mapping[str, tuple[float, Evaluation]], *, xlabel: str, before: Evaluation, ax: Axes | None = None
) -> Axes:
    """Draw the accuracy of a few models over what was lost, with 95% intervals; dotted lines mark the base model.

    Args:
        points: what was lost and the evaluation, by name.
        xlabel: label of the axis, with its unit.
        before: the evaluation of the base model, which has lost nothing.
        ax: where to draw.
    """
    ax = axes_for(ax, height=4)
    styles = looks(points)
    for (x, evaluation), look in zip(points.values(), styles.values(), strict=True):
        y, (low, high) = 100 * evaluation.accuracy, evaluation.interval
        ax.errorbar(x, y, [[y - 100 * low], [100 * high - y]], **point(look.marker, look.ink))
    ax.axhline(100 * before.accuracy, color=GREY, linestyle=":")
    ax.axvline(0, color=GREY, linestyle=":")
    ax.margins(x=0.2, y=0.15)
    end_at_100(ax)
    ax.set(xlabel=xlabel, ylabel="accuracy (%), 95% interval")
    places = {name: (x, 100 * evaluation.accuracy) for name, (x, evaluation) in points.items()}
    bars = [(x, 100 * e.interval[0], x, 100 * e.interval[1]) for x, e in points.values()]
    label_points(ax, places, {name: look.text for name, look in styles.items()}, bars)
    said = [f"{name} {100 * e.accuracy:.0f} ({interval(e)}) at {number(x)}" for name, (x, e) in points.items()]
    base = f"Before: {100 * before.accuracy:.0f} at 0."
    describe(ax, f"Dots with 95% intervals: accuracy (%) over {xlabel}. {listed(said)} {base}")
    return ax
