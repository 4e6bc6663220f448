"""Draw comparisons: accuracy over a setting, with a dot for each seed, and predicted over measured memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from labkit.display.alt import describe, listed, number
from labkit.display.labels import label_ends, room, wrapped
from labkit.display.looks import look_of, looks, method_look
from labkit.display.points import label_points
from labkit.display.style import GREY, axes_for, end_at_100, legend, plain_log

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from pandas import DataFrame


def sweep(
    rows: DataFrame,
    x: str,
    by: str | None = None,
    *,
    xlabel: str,
    limits: tuple[float, float] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw accuracy over a column of ``lk.results(…)``: a dot for each seed, and their mean.

    Args:
        rows: one row for each run.
        x: the column on the horizontal axis; numbers get a logarithmic scale.
        by: a column that splits the rows into curves.
        xlabel: label of the axis, with its unit.
        limits: the accuracies shown, in %; those of all rows by default.
        ax: where to draw.
    """
    ax = axes_for(ax)
    words = isinstance(rows[x].iloc[0], str)
    if words:
        ax.xaxis.update_units(list(rows[x].unique()))  # fixes their order on the axis
    split = by or (x if words and all(map(method_look, rows[x].unique())) else None)
    groups = [(str(name), group) for name, group in rows.groupby(split, sort=bool(by), dropna=False)] if split else []
    # A single curve has the look of the method that all its runs were made with.
    methods = list(rows["name"].unique()) if "name" in rows else []
    styles = looks(name for name, _ in groups) or {"": look_of(methods[0] if len(methods) == 1 else "")}
    ends, tops, said = {}, {}, []
    for name, group in groups or [("", rows)]:
        look = styles[name]
        mean = 100 * group.groupby(x, sort=not words)["accuracy"].mean()
        # A line between words would suggest values between them: there, the mean is a stroke.
        style: dict[str, Any] = {"marker": "_", "markersize": 30, "linestyle": "none"} if words else {"ls": look.line}
        ax.plot(mean.index, mean, color=look.ink, label=name, **style)
        dots: dict[str, Any] = {
            "marker": look.marker,
            "s": 30,
            "zorder": 3,
            "alpha": 0.8,
            "clip_on": limits is not None,
        }
        ax.scatter(group[x], 100 * group["accuracy"], color=look.ink, **dots)
        places, values = list(mean.index), list(mean)
        high, low = values.index(max(values)), values.index(min(values))
        ends[name], tops[name] = (places[-1], values[-1], look.text), (places[high], values[high])
        extremes = [
            f"{word} {values[at]:.1f} at {_place(places[at])}" for word, at in (("highest", high), ("lowest", low))
        ]
        said.append(f"{name or 'mean'} {', '.join(extremes)}" if high != low else f"{name} {values[high]:.1f}")
    if words:
        ax.margins(x=0.15)
    else:
        ax.set_xscale("log", base=2 if rows[x].min() >= 1 else 10)
        ticks = sorted(rows[x].unique())
        ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        ax.minorticks_off()
    end_at_100(ax)
    ax.set(xlabel=xlabel, ylabel="accuracy (%), one dot a seed", **({"ylim": limits} if limits else {}))
    if by and words:
        legend(ax)
    elif by and len({end for end, _, _ in ends.values()}) == 1:
        label_ends(ax, ends)
    elif by:  # where curves end early, or crash together, their names stand at their best
        label_points(ax, tops, {name: look.text for name, look in styles.items()})
    describe(ax, f"Dots for seeds and their means: accuracy (%) over {xlabel}. Means: {listed(said)}")
    return ax


def differences(table: DataFrame, ax: Axes | None = None) -> Axes:
    """Draw the differences of ``lk.compare(…, against=…)`` and their intervals; the dots of decided ones are filled.

    Args:
        table: as ``lk.compare`` returned it, with one method in the column ``second``.
        ax: where to draw.
    """
    ax = axes_for(ax, height=1.3 + room(table["first"], 0.3))
    (against,) = table["second"].unique()
    places = range(len(table) - 1, -1, -1)  # the first row on top
    ax.axvline(0, color=GREY, linewidth=1)
    rows = table.to_dict("records")
    styles = looks(row["first"] for row in rows)
    ax.hlines(places, table["low"], table["high"], color=[look.ink for look in styles.values()], linewidth=2)
    for place, row, look in zip(places, rows, styles.values(), strict=True):
        face = "white" if row["verdict"] == "undecided" else look.ink
        ax.plot(row["points"], place, look.marker, color=look.ink, markersize=7, markerfacecolor=face)
    ax.set_yticks(places, [wrapped(name) for name in styles])
    ax.set(xlabel=f"accuracy minus that of {against} (points)\nwith 95% interval; filled where it is decided")
    decided = [
        "{first} {points:+.1f} ({low:+.1f} to {high:+.1f})".format_map(r) for r in rows if r["verdict"] != "undecided"
    ]
    others = ["{first} {points:+.1f}".format_map(row) for row in rows if row["verdict"] == "undecided"]
    said = f"Decided: {listed(decided or ['none'])} Undecided: {listed(others or ['none'])}"
    describe(ax, f"Dots with 95% intervals: accuracy minus that of {against} (points). {said}")
    return ax


def predictions(pairs: Mapping[str, Sequence[tuple[int, int]]], ax: Axes | None = None) -> Axes:
    """Draw predicted over measured peaks, in MB; right predictions are on the diagonal.

    Args:
        pairs: (measured, predicted) in bytes, by the name of a method.
        ax: where to draw.
    """
    ax = axes_for(ax, height=max(4.4, 1 + room(pairs, 0.2)))
    every = [value / 1e6 for points in pairs.values() for point in points for value in point]
    ends = [0.8 * min(every), 1.25 * max(every)]
    ax.plot(ends, ends, color=GREY, linestyle="--", linewidth=1, label="predicted = measured")
    for (name, points), look in zip(pairs.items(), looks(pairs).values(), strict=True):
        xs, ys = zip(*[(measured / 1e6, predicted / 1e6) for measured, predicted in points], strict=True)
        # Open, so that those behind are seen, too.
        ax.plot(xs, ys, look.marker, color=look.ink, markerfacecolor="none", markersize=9, label=wrapped(name))
    ax.set(xscale="log", yscale="log", xlim=ends, ylim=ends)
    plain_log(ax.xaxis, *ends)
    plain_log(ax.yaxis, *ends)
    ax.set(xlabel="measured peak of a step (MB)", ylabel="predicted peak (MB)")
    legend(ax)
    worst = {name: max((p / m - 1 for m, p in points), key=abs) for name, points in pairs.items()}
    said = listed(f"{name} {100 * error:+.2g}%" for name, error in worst.items())
    describe(ax, f"Dots: predicted over measured peak of a step (MB), and the diagonal. Largest errors: {said}")
    return ax


def _place(at: Any) -> str:
    return at if isinstance(at, str) else number(at)
