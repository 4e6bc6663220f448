"""Names beside points, where they cover no other name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.text import Text

from labkit.display.labels import Placer, write

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.backend_bases import RendererBase


def label_points(
    ax: Axes,
    points: Mapping[str, tuple[float, float]],
    colors: Mapping[str, str],
    lines: Sequence[tuple[float, float, float, float]] = (),
) -> None:
    """Write names beside points, each at the nearest place where it covers no point and no other name.

    Args:
        ax: where the points are.
        points: x and y by name; the first ones choose their places first.
        colors: of the texts, by name.
        lines: upright or level ones that names should rather not stand on, as (x, y, x, y).
    """
    texts = {
        name: write(ax, name, at, (0, 0), colors[name], textcoords="offset pixels", va="bottom", in_layout=False)
        for name, at in points.items()
    }

    def place(renderer: RendererBase) -> None:
        point = ax.figure.dpi / 72
        spots = {name: ax.transData.transform(at) for name, at in points.items()}
        taken = [(*(at - 5 * point), *(at + 5 * point)) for at in spots.values()]
        strokes = [(*one.min(axis=0) - point, *one.max(axis=0) + point) for one in map(ends, lines)]
        for name, text in texts.items():
            size = Text.get_window_extent(text, renderer)
            width, height, beside = size.width + 2 * point, size.height, 7 * point
            offsets = np.array(
                [
                    (dx, dy)
                    for far in range(24)
                    for dx in (beside, -beside - width, -width / 2, beside + width, -beside - 2 * width)
                    for dy in (beside / 2 + far * height, -beside / 2 - (far + 1) * height)
                ]
            )
            boxes = np.hstack([spots[name] + offsets, spots[name] + offsets + (width, height)])
            outside = width * height - _shared(boxes, [ax.bbox.extents])
            # First of all, no text over another; then, no text over a line, unless it would be far away.
            costs = 100 * (_shared(boxes, taken) + outside) + _shared(boxes, strokes)
            best = int(np.argmin(costs + height * np.hypot(*offsets.T)))
            text.set_position(tuple(offsets[best]))
            if text.arrow_patch is not None:
                text.arrow_patch.set_visible(best >= 6)
            taken.append(tuple(boxes[best]))

    def ends(line: tuple[float, float, float, float]) -> np.ndarray:
        return ax.transData.transform([line[:2], line[2:]])

    ax.add_artist(Placer(place))


def _shared(boxes: np.ndarray, others: Sequence[Any]) -> np.ndarray:
    """Return the area that each box shares with the others. Boxes are (left, bottom, right, top)."""
    one, other = boxes[:, None], np.reshape(others, (-1, 4))[None]
    sides = np.minimum(one[..., 2:], other[..., 2:]) - np.maximum(one[..., :2], other[..., :2])
    return sides.clip(min=0).prod(axis=-1).sum(axis=-1)
