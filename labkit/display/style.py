"""Shared by all figures: greys, lines and markers that can be told apart without colours."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

GREYS = ("0.15", "0.45", "0.65", "0.85")
LINES = ("-", "--", ":", "-.")
MARKERS = ("o", "s", "^", "D", "v")


def as_png(figure: Figure) -> bytes:
    """Return a figure as a PNG file, which a widget can show."""
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    return buffer.getvalue()
