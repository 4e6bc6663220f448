"""Figures that read well in greyscale, with units on every axis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from matplotlib import pyplot as plt
from matplotlib.ticker import MaxNLocator

from labkit.errors import unknown

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from labkit.evaluation import Evaluation
    from labkit.memory import MemoryReport

GREYS = ("0.15", "0.45", "0.65", "0.85")
HATCHES = ("", "//", "..", "")
LINES = ("-", "--", ":", "-.")
MARKERS = ("o", "s", "^", "D", "v")


def plot_history(history: Sequence[Mapping[str, float]], ax: Axes | None = None, column: str = "loss") -> Axes:
    """Draw a column of a run's history over the steps; for the loss, with a running mean."""
    ax = ax or plt.subplots(figsize=(6, 3.2), layout="constrained")[1]
    points = [(row["step"], row[column]) for row in history if column in row]
    if not points:
        raise unknown("column", column, {key for row in history for key in row})
    steps, values = zip(*points, strict=True)
    smooth = column == "loss" and len(values) > 10
    ax.plot(steps, values, color="0.7" if smooth else "0.1", linewidth=1, label="each step")
    if smooth:
        window = max(2, len(values) // 10)
        means = [sum(values[max(0, i - window + 1) : i + 1]) / min(window, i + 1) for i in range(len(values))]
        ax.plot(steps, means, color="0.1", linewidth=2, label=f"mean of the last {window}")
        ax.legend(frameon=False)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set(xlabel="step", ylabel="loss (nats a token)" if column == "loss" else column.replace("_", " "))
    return ax


def plot_memory(reports: Mapping[str, MemoryReport], ax: Axes | None = None) -> Axes:
    """Draw a stacked bar for each report: what was in memory at the peak of a step, in MB (10⁶ bytes)."""
    ax = ax or plt.subplots(figsize=(7, 1.2 + 0.7 * len(reports)), layout="constrained")[1]
    left = [0.0] * len(reports)
    names = list(reports)
    parts = [reports[name].megabytes() for name in names]
    for kind, grey, hatch in zip(parts[0], GREYS, HATCHES, strict=True):
        sizes = [part[kind] for part in parts]
        bars = ax.barh(names, sizes, left=left, color=grey, hatch=hatch, edgecolor="white", label=kind)
        room = max(sum(part.values()) for part in parts) / 14
        ax.bar_label(
            bars,
            labels=[f"{size:.0f}" if size > room else "" for size in sizes],
            label_type="center",
            color="white" if grey < "0.6" else "black",
            bbox={"facecolor": grey, "edgecolor": "none", "pad": 1},
        )
        left = [a + b for a, b in zip(left, sizes, strict=True)]
    ax.set(xlabel="memory at the peak of a step (MB)")
    ax.invert_yaxis()
    ax.legend(ncols=4, frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    return ax


def plot_accuracy(evaluations: Mapping[str, Evaluation], chance: float, ax: Axes | None = None) -> Axes:
    """Draw accuracies with their 95% intervals, and the accuracy of guessing as a dotted line."""
    ax = ax or plt.subplots(figsize=(6, 1.2 + 0.5 * len(evaluations)), layout="constrained")[1]
    for row, evaluation in enumerate(evaluations.values()):
        low, high = (100 * bound for bound in evaluation.interval)
        ax.barh(row, 100 * evaluation.accuracy, color=GREYS[row % 2 + 1], height=0.6)
        ax.plot([low, high], [row, row], color="black", linewidth=2, marker="|", markersize=10)
        ax.text(high + 1.5, row, f"{100 * evaluation.accuracy:.0f}%", va="center")
    ax.axvline(100 * chance, color="black", linestyle=":", linewidth=1.5, label="guessing")
    ax.set_yticks(range(len(evaluations)), list(evaluations))
    ax.set(xlabel="accuracy on the test set (%), with 95% interval", xlim=(0, 108))
    ax.invert_yaxis()
    ax.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    return ax


def plot_curves(
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    xlabel: str,
    ylabel: str,
    ax: Axes | None = None,
) -> Axes:
    """Draw named curves, told apart by line style and marker."""
    ax = ax or plt.subplots(figsize=(6, 3.2), layout="constrained")[1]
    for number, (name, (xs, ys)) in enumerate(curves.items()):
        style = {"linestyle": LINES[number % len(LINES)], "marker": MARKERS[number % len(MARKERS)]}
        ax.plot(xs, ys, color=GREYS[number % 3], label=name, **style)
    if xlabel == "step":
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set(xlabel=xlabel, ylabel=ylabel)
    ax.legend(frameon=False)
    return ax


def plot_timeline(report: MemoryReport, ax: Axes | None = None) -> Axes:
    """Draw the memory of one step as it passes: forward, backward, update (in MB, 10⁶ bytes)."""
    ax = ax or plt.subplots(figsize=(7, 3.4), layout="constrained")[1]
    stride = max(1, len(report.timeline) // 2000)
    points = report.timeline[::stride]
    series = [[value / 1e6 for value in kind] for kind in zip(*points, strict=True)]
    xs = [100 * i / max(1, len(points) - 1) for i in range(len(points))]
    areas = ax.stackplot(xs, series, colors=GREYS, labels=report.megabytes(), edgecolor="white", linewidth=0.3)
    for area, hatch in zip(areas, HATCHES, strict=True):
        area.set_hatch(hatch)
    ax.set(xlabel="progress of one step (% of allocations and releases)", ylabel="memory in use (MB)")
    ax.legend(ncols=4, frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    return ax
