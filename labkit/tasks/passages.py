"""Cut plain text into passages, each with an opening that the model reads and a continuation that it learns."""

from __future__ import annotations

import re
from collections.abc import Iterator

PASSAGE = 800  # characters, some 200 tokens
OPENING = 8  # words of a passage that the model reads; it learns the others


def passages(text: str) -> Iterator[str]:
    """Yield a text in pieces of at most 800 characters, cut between paragraphs if possible, else between words."""
    piece = ""
    for paragraph in re.split(r"\n\s*\n", text):
        for part in re.findall(rf"\S.{{0,{PASSAGE - 2}}}(?!\S)|\S{{{PASSAGE}}}", paragraph.strip(), re.DOTALL):
            if piece and len(piece) + len(part) + 2 > PASSAGE:
                yield piece
                piece = ""
            piece = f"{piece}\n\n{part.strip()}" if piece else part.strip()
    if piece:
        yield piece


def cut_opening(passage: str) -> tuple[str, str]:
    """Return the first 8 words of a passage and the rest; the rest is empty if there are no more words."""
    opening = re.match(rf"(?:\S+\s+){{{OPENING - 1}}}\S+", passage)
    is_unspaced = re.search(rf"\S{{{5 * OPENING}}}", passage)  # such as Chinese
    end = opening.end() if opening else 5 * OPENING if is_unspaced else len(passage)
    return passage[:end], passage[end:]
