"""A conversation as HTML that reads well on a light ground and on a dark one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape

from labkit.display.style import GREY, PALETTE

SPEAKERS = {"system": ("System", GREY), "user": ("You", PALETTE["sky blue"]), "assistant": ("Model", PALETTE["orange"])}


def transcript(name: str, turns: Iterable[Mapping[str, str]]) -> str:
    """Return a conversation with the model called ``name``: each turn beside a bar in its speaker's colour."""
    title = f"Conversation with {escape(name, quote=True)}"  # what a screen reader finds it by
    head = f'<div style="font-weight:bold;border-bottom:1px solid {GREY}">{escape(name)}</div>'
    # Spaces and ends of lines are shown as they are; a word longer than a line is broken.
    style = 'style="line-height:1.4;white-space:pre-wrap;overflow-wrap:anywhere"'
    return f'<div role="log" aria-label="{title}" {style}>{head}{"".join(map(_turn, turns))}</div>'


def _turn(turn: Mapping[str, str]) -> str:
    speaker, color = SPEAKERS[turn["role"]]
    style = f"border-left:4px solid {color};padding-left:8px;margin:8px 0"
    return f'<div style="{style}"><b>{speaker}:</b> {escape(turn["content"])}</div>'
