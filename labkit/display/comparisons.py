"""A stored comparison as a picture: each seed a dot, the mean a line or a stroke."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib import pyplot as plt

from labkit.display.plots import GREYS, LINES, MARKERS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from pandas import DataFrame


def plot_sweep(rows: DataFrame, x: str, by: str | None = None, *, xlabel: str, ax: Axes | None = None) -> Axes:
    """Draw accuracy over a column of ``lk.results(…)``.

    Args:
        rows: one row for each run.
        x: the column on the horizontal axis; numbers are drawn on a scale of powers.
        by: a column that splits the rows into curves.
        xlabel: what the axis says, with its unit.
    """
    ax = ax or plt.subplots(figsize=(6.5, 3.6), layout="constrained")[1]
    groups = rows.groupby(by, sort=True, dropna=False) if by else [("", rows)]
    words = isinstance(rows[x].iloc[0], str)
    if words:
        ax.xaxis.update_units(list(rows[x].unique()))  # fixes their order on the axis
    for number, (name, group) in enumerate(groups):
        grey, marker = GREYS[number % 3], MARKERS[number % len(MARKERS)]
        mean = group.groupby(x, sort=not words)["accuracy"].mean()
        # A line between words would suggest something between them: there, the mean is a stroke.
        style = {"marker": "_", "markersize": 30, "linestyle": "none"} if words else {"linestyle": LINES[number % 4]}
        ax.plot(mean.index, 100 * mean, color=grey, label=str(name), **style)
        ax.scatter(group[x], 100 * group["accuracy"], color=grey, marker=marker, s=28, zorder=3, alpha=0.8)
    if not words:
        ax.set_xscale("log", base=2 if rows[x].min() >= 1 else 10)
        ticks = sorted(rows[x].unique())
        ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        ax.minorticks_off()
    ax.set(xlabel=xlabel, ylabel="accuracy (%), one dot a seed")
    if by:
        ax.legend(frameon=False)
    return ax


def spread(rows: DataFrame, by: str | list[str]) -> DataFrame:
    """Return for each group the mean accuracy, the lowest and the highest, in percent, and the number of runs."""
    table = rows.groupby(by, sort=False, dropna=False)["accuracy"].agg(["mean", "min", "max", "count"])
    table[["mean", "min", "max"]] *= 100
    return table.round(1).rename(columns={"count": "runs"})


def is_tie(first: DataFrame, second: DataFrame) -> bool:
    """Say whether the ranges of two groups of runs overlap: then their order may be chance."""
    one, other = first["accuracy"], second["accuracy"]
    return bool(one.max() >= other.min() and other.max() >= one.min())
