"""Draw what training data are worth: accuracy over their amount, and amounts that are worth the same."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

from labkit.display.alt import course, describe, listed
from labkit.display.labels import label_ends, room, wrapped
from labkit.display.looks import look_of, looks
from labkit.display.style import GREY, axes_for
from labkit.errors import LabkitError, require_number
from labkit.evaluation.bootstrap import bootstrap_interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from pandas import DataFrame


class Worth(Protocol):
    """What ``labkit.comparisons.isolines`` returns: an amount, its 95% interval, and the amounts that were run."""

    amount: float
    interval: tuple[float, float]
    span: tuple[float, float]


def amounts(rows: DataFrame, ax: Axes | None = None, *, x: str = "data.amount", by: str = "data.noise") -> Axes:
    """Draw the accuracy of runs over the amount of training data, with 95% intervals: a curve for each noise.

    Args:
        rows: of ``lk.results("data-quality")``, with ``hits``, of which only amount and noise differ.
        ax: where to draw.
        x, by: columns of the amount and of the share of wrong labels.
    """
    ax = axes_for(ax, height=4.2)
    shares = sorted(map(float, rows[by].unique()))
    groups = {f"{100 * share:.0f}% wrong": rows[rows[by] == share] for share in shares}
    ends, said = {}, []
    for (name, group), look in zip(groups.items(), looks(groups).values(), strict=True):
        mean = 100 * group.groupby(x)["accuracy"].mean()
        bounds = [bootstrap_interval(list(cell["hits"])) for _, cell in group.groupby(x)]
        ax.plot(mean.index, mean, color=look.ink, linestyle=look.line, marker=look.marker, label=name)
        ax.vlines(mean.index, [100 * low for low, _ in bounds], [100 * high for _, high in bounds], color=look.ink)
        ends[name] = (mean.index[-1], mean.iloc[-1], look.text)
        low, high = (100 * bound for bound in bounds[-1])
        said.append(f"{course(name, list(mean.index), list(mean))} (there {low:.1f} to {high:.1f})")
    ax.set_xscale("log")
    ticks = sorted(rows[x].unique())
    ax.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    ax.minorticks_off()
    ax.set(xlabel="training examples", ylabel="accuracy (%), with 95% interval")
    label_ends(ax, ends)
    describe(ax, f"Line chart: {ax.get_ylabel()}, over {ax.get_xlabel()}, by wrong labels. {listed(said)}")
    return ax


def worth(found: Mapping[str, Worth], at: float, ax: Axes | None = None) -> Axes:
    """Draw how many examples of each quality are worth ``at`` good ones; an arrow leads beyond what was run.

    Args:
        found: the equal amount and its interval by the name of the quality.
        at: the number of good examples.
        ax: where to draw.

    Raises:
        LabkitError: there is nothing to draw, or ``at`` is no number above 0.
    """
    at = require_number("at", at, above=0)
    if not found:
        raise LabkitError("There are no amounts to draw.", "Pass those of isolines, by name.")
    ax = axes_for(ax, height=1.4 + room(found, 0.4))
    said, look = [], look_of("")  # no colours, which in `amounts` have a meaning
    for row, (name, one) in enumerate(found.items()):
        first, last = one.span
        low, middle, high = (min(max(v, first), last) for v in (one.interval[0], one.amount, one.interval[1]))
        ax.hlines(row, low, high, color=look.ink, linewidth=2)
        for beyond, end, marker in ((math.isinf(one.interval[1]), last, ">"), (one.interval[0] == 0, first, "<")):
            if beyond:
                ax.plot(end, row, marker, color=look.ink, markersize=9, clip_on=False)
        if 0 < one.amount < math.inf:
            ax.plot(middle, row, look.marker, color=look.ink, markersize=7)
        said.append(f"{name}: {one}")
    ax.axvline(at, color=GREY, linestyle=":", linewidth=1.8)
    ax.set_xscale("log")
    ends = sorted({at, *(end for one in found.values() for end in one.span)})
    ax.set_xticks(ends, [f"{tick:,.0f}" for tick in ends])
    ax.minorticks_off()
    ax.set_yticks(range(len(found)), [wrapped(name) for name in found])
    ax.grid(visible=False, axis="y")
    ax.set_ylim(len(found) - 0.5, -0.5)
    ax.set(xlabel=f"examples worth {at:,.0f} good ones (95% interval;\narrow: beyond the runs)")
    words = f"Dots and intervals: examples worth {at:,.0f} good ones. {listed(said)}"
    describe(ax, words)
    return ax
