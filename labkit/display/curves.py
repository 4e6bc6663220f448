"""Draw training: the loss over the steps, named curves, and accuracies with their intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from matplotlib import pyplot as plt
from matplotlib.ticker import MaxNLocator

from labkit.display.style import GREYS, LINES, MARKERS
from labkit.errors import require_number, unknown

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from labkit.evaluation import Evaluation


def history(history: Sequence[Mapping[str, float]], ax: Axes | None = None, column: str = "loss") -> Axes:
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


def curves(
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    xlabel: str,
    ylabel: str,
    ax: Axes | None = None,
) -> Axes:
    """Draw named curves, told apart by line style and marker."""
    ax = ax or plt.subplots(figsize=(6, 3.2), layout="constrained")[1]
    for number, (name, (xs, ys)) in enumerate(curves.items()):
        style: dict[str, Any] = {"linestyle": LINES[number % len(LINES)], "marker": MARKERS[number % len(MARKERS)]}
        ax.plot(xs, ys, color=GREYS[number % 3], label=name, **style)
    if xlabel == "step":
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set(xlabel=xlabel, ylabel=ylabel)
    ax.legend(frameon=False)
    return ax


def accuracy(evaluations: Mapping[str, Evaluation], chance: float, ax: Axes | None = None) -> Axes:
    """Draw accuracies with their 95% intervals, and the accuracy of guessing as a dotted line."""
    chance = require_number("chance", chance, low=0)
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
