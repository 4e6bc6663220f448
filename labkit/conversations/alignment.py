"""The ids of a conversation beside the tokens that were expected: which stands where, and what it is."""

from __future__ import annotations

from difflib import SequenceMatcher
from typing import Any

from labkit.conversations.pieces import IGNORED, text_of
from labkit.conversations.spans import CONTENT, HEADER, Piece
from labkit.errors import LabkitError


class Aligned:
    """One row of ids and labels, aligned with the tokens of the conversation as its template writes it.

    Args:
        tokenizer: whose tokens they are.
        ids, aims: the input_ids and the labels.
        pads: which of them are padding.
        pieces: the expected tokens.

    Attributes:
        kept: the places of ids that are no padding.
        places: for each expected token, its place among the ids; None where it is missing.

    Raises:
        LabkitError: fewer than half of the tokens match.
    """

    def __init__(self, tokenizer: Any, ids: list[int], aims: list[int], pads: list[bool], pieces: list[Piece]):
        self.tokenizer, self.ids, self.aims, self.pads, self.pieces = tokenizer, ids, aims, pads, pieces
        self.kept = [at for at, pad in enumerate(pads) if not pad]
        self.places: list[int | None] = [None] * len(pieces)
        self._replaced: set[int] = set()  # expected tokens whose text stands there in other tokens
        matcher = SequenceMatcher(None, [p.id for p in pieces], [ids[at] for at in self.kept], autojunk=False)
        for kind, start, end, other, last in matcher.get_opcodes():
            if kind == "equal":
                self.places[start:end] = self.kept[other:last]
            elif kind == "replace":
                there = "".join(self.text(ids[at]) for at in self.kept[other:last])
                if "".join(self.text(p.id) for p in pieces[start:end]) == there:
                    self._replaced.update(range(start, end))
        matched = sum(place is not None for place in self.places)
        if 2 * matched < min(len(pieces), len(self.kept)):
            raise LabkitError("These ids are not those of this conversation.", "Pass the template that made them.")

    def of(self, message: int, kind: str = CONTENT) -> list[int]:
        """Return the expected tokens of a kind that belong to a message."""
        return [i for i, piece in enumerate(self.pieces) if piece.message == message and piece.kind == kind]

    def lost(self, message: int) -> list[int]:
        """Return the expected tokens of a message's content that are missing."""
        return [i for i in self.of(message) if self.places[i] is None and i not in self._replaced]

    def learned(self, expected: int) -> bool:
        """Return whether an expected token is there and learned; white space is not counted: it teaches nothing."""
        place = self.places[expected]
        return place is not None and self.aims[place] != IGNORED and bool(self.text(self.ids[place]).strip())

    def where(self, expected: int) -> int:
        """Return where an expected token stands, or would stand."""
        before = [place for place in self.places[: expected + 1] if place is not None]
        return before[-1] + (self.places[expected] is None) if before else 0

    def leads(self, expected: int, messages: list[int]) -> bool:
        """Return whether only the template's tokens stand between the header of one of the messages and this one."""
        before = next((p for p in reversed(self.pieces[:expected]) if p.kind != "template"), None)
        return before is not None and before.kind == HEADER and before.message in messages

    def text(self, token: int) -> str:
        """Return the text of a token."""
        return text_of(self.tokenizer, token)

    def word(self, place: int) -> str:
        """Return the text of the token at a place, in quotes."""
        return f"'{self.text(self.ids[place])}'"
