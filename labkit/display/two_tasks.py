"""Draw how well each of several models does one task, over how well it does another."""

from __future__ import annotations

from typing import TYPE_CHECKING

from labkit.display.alt import describe, listed
from labkit.display.pareto import front
from labkit.display.runs import draw_runs
from labkit.display.style import GREY, axes_for, end_at_100
from labkit.errors import LabkitError, unknown

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from pandas import DataFrame


def two_tasks(
    rows: DataFrame,
    x: str,
    y: str,
    by: str,
    *,
    xlabel: str,
    ylabel: str,
    goal: tuple[str, str] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw the accuracy of each way on one task over that on another; points that none beats in both are filled.

    A point is the mean of a way's runs. Its bars reach from the lowest run to the highest, in both directions.

    Args:
        rows: one row for each run.
        x, y: the columns with the accuracies, from 0 to 1.
        by: the column with the ways' names.
        xlabel, ylabel: labels of the axes, such as "accuracy on licenses (%)".
        goal: the ways that are to be equalled on ``x`` and on ``y``, such as the two specialists; dotted lines mark
            their means, and who reaches the corner does both tasks as well as they do.
        ax: where to draw.

    Raises:
        LabkitError: a column or a name of ``goal`` is missing, or no row has both accuracies.
    """
    for column in (x, y, by):
        if column not in rows.columns:
            raise unknown("column", column, map(str, rows.columns))
    rows = rows.dropna(subset=[x, y])
    if rows.empty:
        raise LabkitError(f"No row has {x} and {y}.", "Pass a row for each run, with both accuracies.")
    rows = rows.assign(**{x: 100 * rows[x], y: 100 * rows[y]})
    means = rows.groupby(by, sort=False)[[x, y]].mean()
    best = front((-means[x]).to_list(), means[y].to_list())
    for name in goal or ():
        if name not in means.index:
            raise unknown("way", name, means.index)
    ax = axes_for(ax, height=4.4)
    reached = ""
    if goal:
        right, top = means[x].to_dict()[goal[0]], means[y].to_dict()[goal[1]]
        ax.axvline(right, color=GREY, linestyle=":", linewidth=1.5, zorder=0)
        ax.axhline(top, color=GREY, linestyle=":", linewidth=1.5, zorder=0)
        reached = f" Dotted lines mark {goal[0]} at {right:.1f} and {goal[1]} at {top:.1f}."
    draw_runs(ax, rows, x, y, by, filled=[*means.index[best]])
    ax.margins(0.12)
    for axis in "xy":
        end_at_100(ax, axis)
    ax.set(xlabel=f"{xlabel}\nmean, lowest and highest seed; filled where none is better on both", ylabel=ylabel)
    said = listed(f"{name} {up:.1f} at {across:.1f}" for name, across, up in means.itertuples())
    describe(ax, f"Dots: mean {ylabel} over {xlabel}. {said} Filled: {', '.join(means.index[best])}.{reached}")
    return ax
