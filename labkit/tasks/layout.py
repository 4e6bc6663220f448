"""How the columns of a row become a prompt and a completion."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

FIELD = re.compile(r"\{([^{}\n]+)\}")


@dataclass(frozen=True)
class Layout:
    """How a row becomes an example: two templates with fields in braces.

    Attributes:
        prompt, completion: the two templates.
        brief: the prompt for rows that lack a field which only ``prompt`` has; empty if every field is required.
        has_labels: whether the completion's column has the usual name of a column of labels.
        is_spaced: whether to put a space between prompt and completion if neither has one.
        note: what a learner should know, such as which columns were recognized.
        columns: the column of each field whose name is not that of its column.
        needed: all columns that the templates use.
        optional: the columns among them that may have no text.
        pieces: for each template, its texts with the columns between them.
    """

    prompt: str
    completion: str
    brief: str = ""
    has_labels: bool = False
    is_spaced: bool = True
    note: str = ""
    columns: Mapping[str, str] = field(default_factory=dict)
    needed: tuple[str, ...] = field(init=False)
    optional: frozenset[str] = field(init=False)
    pieces: Mapping[str, list[str]] = field(init=False)

    def __post_init__(self) -> None:
        pieces = {template: FIELD.split(template) for template in (self.prompt, self.completion, self.brief)}
        for found in pieces.values():
            found[1::2] = [self.columns.get(name, name) for name in found[1::2]]
        needed, always = (
            pieces[prompt][1::2] + pieces[self.completion][1::2] for prompt in (self.prompt, self.brief or self.prompt)
        )
        object.__setattr__(self, "pieces", pieces)
        object.__setattr__(self, "needed", tuple(dict.fromkeys(needed)))
        object.__setattr__(self, "optional", frozenset(needed) - frozenset(always))

    def fill(self, row: Mapping[str, str]) -> tuple[str, str]:
        """Return the prompt and the completion of a row whose needed columns hold texts."""
        has_all = all((row.get(column) or "").strip() for column in self.optional)
        return self._filled(self.prompt if has_all else self.brief, row), self._filled(self.completion, row)

    def _filled(self, template: str, row: Mapping[str, str]) -> str:
        pieces = enumerate(self.pieces[template])
        return "".join([row[piece] if place % 2 else piece for place, piece in pieces])


class Conversation(Layout):
    """How a list of messages becomes an example: the model learns the last reply and reads all before it."""


class Comparison(Layout):
    """How a chosen and a rejected reply become a pair; the prompt has a column of its own, or both begin with it."""
