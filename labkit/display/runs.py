"""Draw several runs of each method as one point."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from labkit.display.looks import looks
from labkit.display.points import label_points

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from pandas import DataFrame


def draw_runs(ax: Axes, rows: DataFrame, x: str, y: str, by: str, filled: Collection[str]) -> None:
    """Draw the mean of each method's runs, and bars from the lowest run to the highest, in both directions.

    Args:
        ax: where to draw.
        rows: one row for each run.
        x, y: the columns on the axes.
        by: the column with the methods' names, which stand beside the points.
        filled: methods whose points are filled, and whose names choose their places first.
    """
    groups = rows.groupby(by, sort=False)[[x, y]]
    means, lowest, highest = groups.mean(), groups.min(), groups.max()
    styles, strokes = looks(means.index), []
    for name, look in styles.items():
        (across, up), (left, bottom), (right, top) = (tuple(table.loc[name]) for table in (means, lowest, highest))
        # A mean of equal numbers may be larger than they are, by rounding.
        bars = [[max(0.0, across - left)], [max(0.0, right - across)]], [[max(0.0, up - bottom)], [max(0.0, top - up)]]
        face = look.ink if name in filled else "white"
        ax.errorbar(across, up, xerr=bars[0], yerr=bars[1], markerfacecolor=face, **point(look.marker, look.ink))
        strokes += [(across, bottom, across, top), (left, up, right, up)]
    chosen = sorted(means.index, key=lambda name: name not in filled)
    places = {name: (means.loc[name, x], means.loc[name, y]) for name in chosen}
    label_points(ax, places, {name: look.text for name, look in styles.items()}, strokes)


def point(marker: str, color: str) -> dict[str, Any]:
    """Return how ``errorbar`` draws a point and its bars."""
    return {"fmt": marker, "color": color, "markersize": 7, "elinewidth": 1.2, "capsize": 3, "clip_on": False}
