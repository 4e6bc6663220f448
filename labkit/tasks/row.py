"""One example: what a model reads, what it should answer, and where it came from."""

from __future__ import annotations

import re
from typing import NamedTuple


class Row(NamedTuple):
    """An example from a learner's data; a tuple, since there may be a million of them.

    Attributes:
        prompt: what the model reads.
        completion: what it should answer, with the space between the two.
        number: its line in a file, or its row in a data set, counted from 1.
        asked: of a conversation, the messages before the last reply, which is the completion.
        columns: the columns of a pair of replies, of which ``prompt`` and ``completion`` are the texts; else None.
    """

    prompt: str
    completion: str
    number: int
    asked: tuple[dict[str, str], ...] = ()
    columns: dict | None = None


def plain(text: str) -> str:
    """Return a text with single spaces for all white space, so that its copies are equal."""
    return " ".join(text.split())


def key_of(text: str) -> str:
    """Return the words and numbers of a text in lower case, so that answers which differ in marks alone are equal."""
    return " ".join(re.findall(r"\w+", text.replace("’", "'").replace("'", "").casefold()))


def holds(text: str, words: str) -> bool:
    """Return whether ``words`` occur in ``text`` as whole words, but for case and marks."""
    return f" {key_of(words)} " in f" {key_of(text)} "


def short(text: str, width: int = 70) -> str:
    """Return a text in quotes, cut to about ``width`` characters."""
    return repr(text if len(text) <= width else f"{text[: width - 1]}…")


def listed(names: list[str], shown: int = 5) -> str:
    """Return the first few names in quotes, and how many more there are."""
    more = f" and {len(names) - shown:,} more" if len(names) > shown else ""
    return ", ".join(map(repr, names[:shown])) + more
