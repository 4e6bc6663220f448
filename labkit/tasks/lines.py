"""The lines of a text, one after the other and with their numbers, without copying the whole text."""

from __future__ import annotations

import re

# Unix, Windows and the old Mac; not U+2028 and the like, at which str.splitlines() also ends a line.
LINE = re.compile(r"[^\r\n]*(?:\r\n?|\n)|[^\r\n]+")


Place = tuple[int, int]  # a position in a text: the numbers of characters and of lines before it


class Lines:
    """An iterator over the lines of a text, each with its line end, that can go back."""

    def __init__(self, text: str, place: Place = (0, 0)):
        self.text = text
        self._match = LINE.match
        self.offset, self.number = place

    def __iter__(self) -> Lines:
        return self

    def __next__(self) -> str:
        if not (match := self._match(self.text, self.offset)):
            raise StopIteration
        self.offset = match.end()
        self.number += 1
        return match[0]

    def line_at(self, place: Place) -> str:
        """Go back to a place, and return the line that begins there."""
        self.offset, self.number = place
        return next(self)

    def since(self, place: Place) -> list[str]:
        """Return the lines from a place up to here, without their line ends."""
        return [line.rstrip("\r\n") for line in LINE.findall(self.text, place[0], self.offset)]
