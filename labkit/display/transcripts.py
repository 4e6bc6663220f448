"""Questions and what several models replied, side by side."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from labkit.display.style import INK, PALETTE, tinted
from labkit.errors import LabkitError
from labkit.generation.replies import Reply
from labkit.printing import printable

CUT = " …"  # behind a reply that did not end


@dataclass(frozen=True)
class Transcripts:
    """Conversations up to the question, and each model's reply; shown as HTML or as text.

    Attributes:
        names: of the models.
        rows: for each question its messages and the replies, in the order of the names.
    """

    names: tuple[str, ...]
    rows: tuple[tuple[tuple[dict[str, str], ...], tuple[Reply, ...]], ...]

    @property
    def words(self) -> str:
        """What is shown, in a sentence."""
        return f"{len(self.rows)} questions and the replies of {', '.join(self.names)}."

    def __str__(self) -> str:
        width = max(len(name) for name in (*self.names, "system", "user", "assistant"))
        blocks = []
        for messages, replies in self.rows:
            said = [(turn["role"], turn["content"]) for turn in messages]
            said += [(name, reply_text(reply)) for name, reply in zip(self.names, replies, strict=True)]
            blocks.append(
                "\n".join(f"{who:>{width}} │ " + text.replace("\n", "\n" + " " * width + " │ ") for who, text in said)
            )
        return printable("\n\n".join(blocks))

    __repr__ = __str__

    def _repr_html_(self) -> Any:
        if os.environ.get("LABKIT_ALT_TEXT") == "print":
            print("Figure:", self.words)  # noqa: T201  asked for by the reader
        # White in each cell, so that it reads in Jupyter's dark theme, too, which paints every other row.
        cell = f"background:white;color:{INK};border:1px solid {INK}"
        cell += ";padding:.4em;text-align:left;vertical-align:top;white-space:pre-wrap"
        head = "".join(f'<th scope="col" style="{cell}">{escape(name)}</th>' for name in ("asked", *self.names))
        body = "".join(
            f'<tr><td style="{cell}">{"".join(_turn(turn) for turn in messages)}</td>'
            + "".join(
                f'<td style="{cell};background:{tinted(PALETTE["sky blue"])}">{escape(reply_text(r))}</td>'
                for r in replies
            )
            + "</tr>"
            for messages, replies in self.rows
        )
        style = "border-collapse:collapse;font-size:14px;width:100%;table-layout:fixed"
        rows = f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody>"
        html = f'<table aria-label="{escape(self.words)}" style="{style}">{rows}</table>'
        return html, {"alt": self.words}


def show_replies(
    conversations: Sequence[Sequence[dict[str, str]]], replies: Mapping[str, Sequence[Reply]]
) -> Transcripts:
    """Show questions and what models replied, side by side. A reply that did not end has dots behind it.

    Args:
        conversations: lists of messages. Where the last is the assistant's, it is shown as the right answer.
        replies: the replies of ``lk.generate`` to each conversation, by the name of the model.

    Raises:
        LabkitError: there are no replies, or not one for each conversation.
    """
    if not replies or not conversations:
        raise LabkitError("There are no replies to show.", 'Pass conversations and {"before": replies}.')
    for name, given in replies.items():
        if len(given) != len(conversations):
            raise LabkitError(
                f"{name} has {len(given)} replies to {len(conversations)} conversations.", "Pass one for each."
            )
    rows = [
        (tuple(dict(turn) for turn in messages), tuple(given[number] for given in replies.values()))
        for number, messages in enumerate(conversations)
    ]
    return Transcripts(tuple(replies), tuple(rows))


def reply_text(reply: Reply) -> str:
    """Return what is shown of a reply; dots behind it say that it did not end."""
    return reply.text.strip() + ("" if reply.stopped else CUT)


def _turn(turn: dict[str, str]) -> str:
    return f"<p style='margin:.2em 0'><b>{escape(turn['role'])}:</b> {escape(turn['content'])}</p>"
