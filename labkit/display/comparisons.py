"""Draw comparisons: accuracy over a setting, with a dot for each seed, and predicted over measured memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from matplotlib import pyplot as plt
from matplotlib.ticker import LogFormatter, ScalarFormatter

from labkit.display.style import GREYS, LINES, MARKERS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from pandas import DataFrame


def sweep(rows: DataFrame, x: str, by: str | None = None, *, xlabel: str, ax: Axes | None = None) -> Axes:
    """Draw accuracy over a column of ``lk.results(…)``.

    Args:
        rows: one row for each run.
        x: the column on the horizontal axis; numbers get a logarithmic scale.
        by: a column that splits the rows into curves.
        xlabel: label of the axis, with its unit.
        ax: where to draw.
    """
    ax = ax or plt.subplots(figsize=(6.5, 3.6), layout="constrained")[1]
    groups = rows.groupby(by, sort=True, dropna=False) if by else [("", rows)]
    words = isinstance(rows[x].iloc[0], str)
    if words:
        ax.xaxis.update_units(list(rows[x].unique()))  # fixes their order on the axis
    for number, (name, group) in enumerate(groups):
        grey, marker = GREYS[number % 3], MARKERS[number % len(MARKERS)]
        mean = group.groupby(x, sort=not words)["accuracy"].mean()
        # A line between words would suggest values between them: there, the mean is a stroke.
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


def differences(table: DataFrame, ax: Axes | None = None) -> Axes:
    """Draw the differences of ``lk.compare(…, against=…)`` and their intervals; the dots of decided ones are filled.

    Args:
        table: as ``lk.compare`` returned it, with one method in the column ``second``.
        ax: where to draw.
    """
    ax = ax or plt.subplots(figsize=(6.5, 3.6), layout="constrained")[1]
    (against,) = table["second"].unique()
    places = range(len(table) - 1, -1, -1)  # the first row on top
    ax.axvline(0, color="0.6", linewidth=1)
    ax.hlines(places, table["low"], table["high"], color="0.3", linewidth=1.5)
    for place, points, verdict in zip(places, table["points"], table["verdict"], strict=True):
        ax.plot(points, place, MARKERS[0], color="0.1", markerfacecolor="white" if verdict == "undecided" else "0.1")
    ax.set_yticks(places, table["first"])
    ax.set(xlabel=f"accuracy minus that of {against} (points), 95% interval")
    return ax


def predictions(pairs: Mapping[str, Sequence[tuple[int, int]]], ax: Axes | None = None) -> Axes:
    """Draw predicted over measured peaks, in MB; right predictions are on the diagonal.

    Args:
        pairs: (measured, predicted) in bytes, by the name of a method.
        ax: where to draw.
    """
    ax = ax or plt.subplots(figsize=(5, 4.4), layout="constrained")[1]
    every = [value / 1e6 for points in pairs.values() for point in points for value in point]
    ends = [0.8 * min(every), 1.25 * max(every)]
    ax.plot(ends, ends, color="0.5", linestyle=LINES[1], linewidth=1, label="predicted = measured")
    for number, (name, points) in enumerate(pairs.items()):
        xs, ys = zip(*[(measured / 1e6, predicted / 1e6) for measured, predicted in points], strict=True)
        marker = MARKERS[number % len(MARKERS)]
        face = "none" if number >= len(MARKERS) else "0.3"
        ax.plot(xs, ys, marker, color="0.1", markerfacecolor=face, markersize=8, label=name)
    ax.set(xscale="log", yscale="log", xlim=ends, ylim=ends)
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter(ScalarFormatter())
        axis.set_minor_formatter(LogFormatter(minor_thresholds=(1.2, 0.6)))
    ax.set(xlabel="measured peak of a step (MB)", ylabel="predicted peak (MB)")
    ax.legend(frameon=False)
    return ax
