"""Draw training: the loss over the steps, named curves, and accuracies with their intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from matplotlib.ticker import MaxNLocator

from labkit.display.alt import course, describe, listed, number
from labkit.display.labels import label_ends, room, wrapped
from labkit.display.looks import looks
from labkit.display.style import GREY, INK, SMALL, axes_for
from labkit.errors import require_number, unknown

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from labkit.evaluation import Evaluation


def history(history: Sequence[Mapping[str, float]], ax: Axes | None = None, column: str = "loss") -> Axes:
    """Draw a column of a run's history over the steps; for the loss, with a running mean."""
    points = [(row["step"], row[column]) for row in history if column in row]
    if not points:
        raise unknown("column", column, {key for row in history for key in row})
    ax = axes_for(ax, height=3.3)
    steps, values = zip(*points, strict=True)
    label = "loss (nats a token)" if column == "loss" else column.replace("_", " ")
    words = f"Line chart: {label} over the steps. "
    if column == "loss" and len(values) > 10:
        window = max(2, len(values) // 10)
        means = [sum(values[max(0, i - window + 1) : i + 1]) / min(window, i + 1) for i in range(len(values))]
        named = {"each step": values, f"mean of the last {window}": means}
        styles = looks(named)
        for (name, ys), width in zip(named.items(), (0.8, 2.2), strict=True):
            ax.plot(steps, ys, color=styles[name].ink if ys is means else GREY, linewidth=width, label=name)
        ends = {name: (steps[-1], ys[-1]) for name, ys in named.items()}
        label_ends(ax, {name: (*at, INK if name == "each step" else styles[name].text) for name, at in ends.items()})
        describe(ax, words + listed(course(name, steps, ys) for name, ys in named.items()))
    else:
        (look,) = looks([column]).values()
        ax.plot(steps, values, color=look.ink, marker=look.marker if len(values) == 1 else "", label="each step")
        describe(ax, words + listed([course("It goes", steps, values)]))
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set(xlabel="step", ylabel=label)
    return ax


def curves(
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    xlabel: str,
    ylabel: str,
    ax: Axes | None = None,
    *,
    bands: Mapping[str, tuple[Sequence[float], Sequence[float]]] | None = None,
) -> Axes:
    """Draw named curves, each with its name at its end, and told apart by colour, line and marker.

    Args:
        curves: the xs and ys of each curve by its name.
        xlabel: label of the axis, with its unit.
        ylabel: label of the axis, with its unit.
        ax: where to draw.
        bands: where curves are means: the lowest and the highest ys by the name of the curve.
    """
    ax = axes_for(ax)
    styles = looks(curves)
    drawn = {name: (list(map(float, xs)), list(map(float, ys))) for name, (xs, ys) in curves.items()}
    for name, (xs, ys) in drawn.items():
        look, few = styles[name], len(xs) <= 20
        marks: dict[str, Any] = {"markevery": 1 if few else max(1, len(xs) // 10), "markersize": 6 if few else 5}
        ax.plot(xs, ys, color=look.ink, linestyle=look.line, marker=look.marker, label=name, **marks)
    around = {name: (list(map(float, lows)), list(map(float, highs))) for name, (lows, highs) in (bands or {}).items()}
    for name, (lows, highs) in around.items():
        ax.fill_between(drawn[name][0], lows, highs, color=styles[name].tint, alpha=0.5, linewidth=0, zorder=0.5)
    if xlabel == "step":
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set(xlabel=xlabel, ylabel=ylabel)
    label_ends(ax, {name: (xs[-1], ys[-1], styles[name].text) for name, (xs, ys) in drawn.items()})
    said = listed(course(name, xs, ys) for name, (xs, ys) in drawn.items())
    ends = listed(f"{name} {number(lows[-1])} to {number(highs[-1])}" for name, (lows, highs) in around.items())
    describe(ax, f"Line chart: {ylabel} over {xlabel}. {said}" + (f" Bands, at their ends: {ends}" if around else ""))
    return ax


def accuracy(evaluations: Mapping[str, Evaluation], chance: float, ax: Axes | None = None) -> Axes:
    """Draw accuracies with their 95% intervals, and the accuracy of guessing as a dotted line."""
    chance = require_number("chance", chance, low=0)
    ax = axes_for(ax, height=1.3 + room(evaluations, 0.45))
    names = [wrapped(name) for name in evaluations]
    for row, (evaluation, look) in enumerate(zip(evaluations.values(), looks(evaluations).values(), strict=True)):
        low, high = (100 * bound for bound in evaluation.interval)
        right = 100 * evaluation.accuracy
        ax.barh(row, right, color=look.tint, edgecolor=look.ink, linewidth=1, height=0.62)
        ax.plot([low, high], [row, row], color=INK, linewidth=1.5, marker="|", markersize=9, clip_on=False)
        ax.plot(right, row, look.marker, color=look.ink, markersize=7, clip_on=False, zorder=3)
        # On the right of the axes: an interval may reach up to 100%.
        place: dict[str, Any] = {"xycoords": ax.get_yaxis_transform(), "textcoords": "offset points", "va": "center"}
        ax.annotate(f"{right:.0f}%", (1, row), (10, 0), color=INK, fontsize=SMALL, **place)
    ax.axvline(100 * chance, color=GREY, linestyle=":", linewidth=1.8)
    ax.annotate(
        "guessing",
        (100 * chance, 1),
        (0, 3),
        xycoords=ax.get_xaxis_transform(),
        textcoords="offset points",
        ha="center" if 100 * chance > 8 else "left",
        color=INK,
        fontsize=SMALL,
    )
    ax.set_yticks(range(len(evaluations)), names)
    ax.set(xlabel="accuracy on the test set (%), with 95% interval", xlim=(0, 100))
    ax.grid(visible=False, axis="y")
    ax.invert_yaxis()
    said = [f"{name} {100 * e.accuracy:.0f} ({interval(e)})" for name, e in evaluations.items()]
    describe(ax, f"Bar chart: {ax.get_xlabel()}. {listed(said)} Guessing: {100 * chance:.0f}.")
    return ax


def interval(evaluation: Evaluation) -> str:
    """Return the 95% interval of an accuracy, in words."""
    low, high = evaluation.interval
    return f"{100 * low:.0f} to {100 * high:.0f}"
