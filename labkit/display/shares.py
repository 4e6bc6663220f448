"""Draw several shares of several models, with intervals: what they get right, how often they stop, and so on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from labkit.display.alt import describe, listed
from labkit.display.curves import interval
from labkit.display.labels import room, wrapped
from labkit.display.looks import looks
from labkit.display.style import axes_for, legend
from labkit.errors import LabkitError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from labkit.evaluation import Evaluation


def shares(groups: Mapping[str, Mapping[str, Evaluation]], ax: Axes | None = None) -> Axes:
    """Draw a dot with its 95% interval for each share.

    Args:
        groups: the shares of each model by the measure's name, by the name of the model.
        ax: where to draw.

    Raises:
        LabkitError: there is nothing to draw.
    """
    measures = list(dict.fromkeys(measure for group in groups.values() for measure in group))
    if not measures:
        raise LabkitError("There is no share to draw.", 'Pass {"before": {"exact": scores.exact}, …}.')
    styles = looks(groups)
    ax = axes_for(ax, height=1.3 + room(measures, 0.22 * max(2, len(groups))))
    step = 0.7 / max(1, len(groups))
    for place, (name, group) in enumerate(groups.items()):
        look, rows = styles[name], [measures.index(measure) for measure in group]
        at = [row + step * (place - (len(groups) - 1) / 2) for row in rows]
        rights = [100 * each.accuracy for each in group.values()]
        bars = [[100 * (each.accuracy - each.interval[0]) for each in group.values()]]
        bars += [[100 * (each.interval[1] - each.accuracy) for each in group.values()]]
        ax.errorbar(
            rights,
            at,
            xerr=[[max(0.0, size) for size in side] for side in bars],
            fmt=look.marker,
            color=look.ink,
            markersize=7,
            capsize=3,
            label=name,
            clip_on=False,
        )
    ax.set_yticks(range(len(measures)), [wrapped(measure) for measure in measures])
    ax.set(xlabel="share of the test questions (%), with 95% interval", xlim=(0, 100), ylim=(-0.5, len(measures) - 0.5))
    ax.grid(visible=False, axis="y")
    ax.invert_yaxis()
    legend(ax, columns=min(4, len(groups)))
    said = [
        f"{measure}: "
        + ", ".join(
            f"{name} {100 * g[measure].accuracy:.0f} ({interval(g[measure])})"
            for name, g in groups.items()
            if measure in g
        )
        + "."
        for measure in measures
    ]
    describe(ax, f"Dots with intervals: {ax.get_xlabel()}. {listed(said)}")
    return ax
