"""What is wrong with the mask of a conversation: faults that cost nothing during training and everything after it.

The expected tokens come from rendering the conversation anew (see ``labkit.conversations.spans``), not from the code
that made the mask. The ids are aligned with them, so that what was doubled, dropped or cut is found, too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any

from labkit.conversations.pieces import padding, row, text_of
from labkit.conversations.spans import CONTENT, HEADER, STOP, TAIL, Piece, pieces_of
from labkit.errors import LabkitError, unknown

IGNORED = -100
# What to do about each fault, by its name.
REMEDIES = {
    "stop never learned": "Let the token that ends the answer be learned, or the model never stops.",
    "padding hides the stop": "Give the tokenizer another pad token, or mask by attention_mask, not by pad_token_id.",
    "begin token doubled": "Tokenize the rendered text with add_special_tokens=False.",
    "header learned": "Learn from the answer on: the template writes its header, not the model.",
    "prompt learned": "Set the labels of what the model only reads to -100.",
    "answer not learned": "Let every token of the answer be learned.",
    "answer cut": "Raise max_length, or leave this example out.",
    "system message dropped": "Use a template that takes a system message, or write it into the first question.",
    "user message dropped": "Raise max_length, or shorten the conversation.",
    "padding learned": "Set the labels of padding to -100.",
    "labels are other tokens": "Don't shift the labels: the model shifts them itself.",
}


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong with a mask.

    Attributes:
        name: one of ``labkit.conversations.faults.REMEDIES``.
        explanation: what was found.
        token: the index in ``input_ids`` where it begins; where something is missing, where it would stand.
        remedy: what to do.
    """

    name: str
    explanation: str
    token: int
    remedy: str

    def __str__(self) -> str:
        return f"{self.name} (token {self.token}): {self.explanation} → {self.remedy}"


def check_masks(
    tokenizer: Any,
    messages: Sequence[dict],
    input_ids: Any,
    labels: Any,
    *,
    learn: str = "last",
    attention_mask: Any = None,
    chat_template: str | None = None,
) -> list[Fault]:
    """Compare the ids and labels of a conversation with what should be learned of it, and name what is wrong.

    Args:
        tokenizer: a tokenizer with a chat template, or a model of labkit's.
        messages: the conversation, a list of ``{"role": …, "content": …}``.
        input_ids: one row of a batch, padded or not.
        labels: its labels, -100 where nothing is learned.
        learn: ``"last"``: the last answer is learned; ``"all"``: each is.
        attention_mask: 0 where there is padding. Without it, padding tokens at either end count as padding.
        chat_template: the template that the ids were made with, if it isn't the tokenizer's.

    Returns:
        The faults, in the order of ``REMEDIES``; an empty list if there is none.

    Raises:
        LabkitError: the ids are not those of this conversation, or it can't be rendered.
    """
    if learn not in ("last", "all"):
        raise unknown("way to learn", learn, ("last", "all"))
    tokenizer = getattr(tokenizer, "tokenizer", tokenizer)
    messages, ids, aims = list(messages), row("input_ids", input_ids), row("labels", labels)
    if len(ids) != len(aims):
        raise LabkitError(f"There are {len(ids)} input_ids and {len(aims)} labels.", "Pass both of one row.")
    attention = None if attention_mask is None else row("attention_mask", attention_mask)
    pieces = _rendered(tokenizer, messages, chat_template)
    tail = next((at for at, piece in enumerate(reversed(pieces)) if piece.id != tokenizer.pad_token_id), 0)
    pads = padding(tokenizer, ids, attention, tail)
    checked = _Checked(tokenizer, messages, ids, aims, pads, pieces, learn)
    found: dict[str, Fault] = {}
    for name, token, explanation in checked.faults():
        found.setdefault(name, Fault(name, explanation, token, REMEDIES[name]))
    return [found[name] for name in REMEDIES if name in found]


def _rendered(tokenizer: Any, messages: list[dict], chat_template: str | None) -> list[Piece]:
    try:
        return pieces_of(tokenizer, messages, chat_template)
    except LabkitError:
        if not messages or messages[0]["role"] != "system":
            raise
    # The template takes no system message: whoever made the ids must have left it out, or written it elsewhere.
    rest = pieces_of(tokenizer, messages[1:], chat_template)
    return [Piece(p.id, p.kind, p.message + (p.message >= 0), p.edge) for p in rest]


class _Checked:
    """The ids, aligned with those that were expected."""

    def __init__(
        self,
        tokenizer: Any,
        messages: list[dict],
        ids: list[int],
        aims: list[int],
        pads: list[bool],
        pieces: list[Piece],
        learn: str,
    ):
        self.tokenizer, self.messages, self.ids, self.aims = tokenizer, messages, ids, aims
        self.pads, self.pieces = pads, pieces
        answers = [at for at, message in enumerate(messages) if message["role"] == "assistant"]
        if not answers:
            raise LabkitError("The conversation has no answer to learn.", "End it with an assistant's message.")
        self.targets = answers if learn == "all" else answers[-1:]
        self.kept = [at for at, pad in enumerate(pads) if not pad]
        # For each expected token, its place among the ids; None where it is missing.
        self.places: list[int | None] = [None] * len(pieces)
        self.replaced: set[int] = set()  # expected tokens in whose place others stand
        matcher = SequenceMatcher(None, [p.id for p in pieces], [ids[at] for at in self.kept], autojunk=False)
        for kind, start, end, other, last in matcher.get_opcodes():
            if kind == "equal":
                for step in range(end - start):
                    self.places[start + step] = self.kept[other + step]
            elif kind == "replace":
                there = "".join(self.text(ids[at]) for at in self.kept[other:last])
                if "".join(self.text(p.id) for p in pieces[start:end]) == there:  # cut into other tokens
                    self.replaced.update(range(start, end))
        matched = sum(place is not None for place in self.places)
        if 2 * matched < min(len(pieces), len(self.kept)):
            raise LabkitError("These ids are not those of this conversation.", "Pass the template that made them.")

    def faults(self) -> Iterator[tuple[str, int, str]]:
        """Yield the name, the place and an explanation of each fault."""
        yield from self._of_begin_and_padding()
        for at, message in enumerate(self.messages):
            yield from self._of_missing(at, message["role"])
        for at in self.targets:
            yield from self._of_answer(at)
        yield from self._of_leaks()

    def _of_begin_and_padding(self) -> Iterator[tuple[str, int, str]]:
        begin, known = self.tokenizer.bos_token_id, {place for place in self.places if place is not None}
        for at in self.kept:
            again = at > 0 and not self.pads[at - 1] and self.ids[at - 1] == begin
            if begin is not None and self.ids[at] == begin and (at not in known or again):
                extra = at if again or self.ids[at + 1 : at + 2] != [begin] else at + 1
                yield "begin token doubled", extra, f"{self.word(extra)} stands there once too often."
        for at, pad in enumerate(self.pads):
            if pad and self.aims[at] != IGNORED:
                yield "padding learned", at, f"The padding {self.word(at)} has a label."
        for at in self.kept:
            if self.aims[at] not in (IGNORED, self.ids[at]):
                yield "labels are other tokens", at, f"The label of {self.word(at)} is another token."

    def _of_missing(self, at: int, role: str) -> Iterator[tuple[str, int, str]]:
        name = {"assistant": "answer cut"}.get(role, f"{role} message dropped")
        content = self.content(at)
        lost = [index for index in content if self.places[index] is None and index not in self.replaced]
        if lost or (not content and role == "system"):
            count = f"{len(lost)} of {len(content)} tokens" if content else "All"
            yield name, self.where(lost[0]) if lost else 0, f"{count} of message {at + 1} ({role}) are missing."

    def _of_answer(self, at: int) -> Iterator[tuple[str, int, str]]:
        content = self.content(at)
        if any(self.places[index] is None and index not in self.replaced for index in content):
            return  # cut: so is its end
        inner = [p for i in content if (p := self.places[i]) is not None and not self.pieces[i].edge]
        if unlearned := [place for place in inner if self.aims[place] == IGNORED]:
            yield "answer not learned", unlearned[0], f"{len(unlearned)} of {len(inner)} tokens have no label."
        for header in self.of(at, HEADER):
            if self.learned(header):
                yield "header learned", self.places[header] or 0, f"{self.word(self.places[header] or 0)} has a label."
        stops = self.of(at, STOP)
        if not stops or any(self.places[index] is None for index in stops):
            last = self.where(content[-1]) if content else 0
            yield "stop never learned", last, f"No token ends the answer in message {at + 1}."
        for place in (p for i in stops if (p := self.places[i]) is not None and self.aims[p] == IGNORED):
            pad = self.ids[place] == self.tokenizer.pad_token_id
            name = "padding hides the stop" if pad else "stop never learned"
            yield (
                name,
                place,
                f"{self.word(place)} ends the answer and has no label" + ("; it also pads." if pad else "."),
            )

    def _of_leaks(self) -> Iterator[tuple[str, int, str]]:
        for index, piece in enumerate(self.pieces):
            own = piece.message in self.targets and piece.kind in (CONTENT, STOP, TAIL, HEADER)
            # Between header and content stands what some templates let the model write, such as an empty thought.
            lead = index + 1 < len(self.pieces) and self.leads(index)
            if not own and not lead and not piece.edge and self.learned(index):
                place = self.places[index] or 0
                yield "prompt learned", place, f"{self.word(place)} is not of an answer to learn, and has a label."

    def leads(self, index: int) -> bool:
        """Whether only the template's own tokens stand between an answer's header and this token."""
        before = next((p for p in reversed(self.pieces[:index]) if p.kind != "template"), None)
        return before is not None and before.kind == HEADER and before.message in self.targets

    def content(self, at: int) -> list[int]:
        return self.of(at, CONTENT)

    def of(self, at: int, kind: str) -> list[int]:
        return [index for index, piece in enumerate(self.pieces) if piece.message == at and piece.kind == kind]

    def learned(self, index: int) -> bool:
        """Whether an expected token is there and learned; white space is not counted: it teaches nothing."""
        place = self.places[index]
        return place is not None and self.aims[place] != IGNORED and bool(self.text(self.ids[place]).strip())

    def where(self, index: int) -> int:
        """Return where an expected token stands, or would stand."""
        before = [place for place in self.places[: index + 1] if place is not None]
        return before[-1] + (self.places[index] is None) if before else 0

    def word(self, place: int) -> str:
        return f"'{self.text(self.ids[place])}'"

    def text(self, token: int) -> str:
        return text_of(self.tokenizer, token)
