"""Figures in widgets: pictures with words for those who don't see them."""

from __future__ import annotations

from base64 import b64encode
from html import escape
from io import BytesIO
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def as_html(figure: Figure, words: str) -> str:
    """Return a figure as an HTML image for ``widgets.HTML``; ``widgets.Image`` has no place for words."""
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=100, facecolor="white")
    return f'<img alt="{escape(words)}" src="data:image/png;base64,{b64encode(buffer.getvalue()).decode()}">'
