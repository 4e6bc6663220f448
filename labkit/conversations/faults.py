"""What is wrong with the mask of a conversation: faults that cost nothing during training and everything after it.

The expected tokens come from rendering the conversation anew (see ``labkit.conversations.spans``), not from the code
that made the mask. The ids are aligned with them, so that what was doubled, dropped or cut is found, too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from labkit.conversations.alignment import Aligned
from labkit.conversations.pieces import IGNORED, padding, row
from labkit.conversations.spans import HEADER, STOP, Piece, pieces_of
from labkit.errors import LabkitError, unknown

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
        raise unknown("part of a conversation to learn", learn, ("last", "all"))
    tokenizer = getattr(tokenizer, "tokenizer", tokenizer)
    messages, ids, aims = list(messages), row("input_ids", input_ids), row("labels", labels)
    if len(ids) != len(aims):
        raise LabkitError(f"There are {len(ids)} input_ids and {len(aims)} labels.", "Pass both of one row.")
    attention = None if attention_mask is None else row("attention_mask", attention_mask)
    pieces = _rendered(tokenizer, messages, chat_template)
    tail = next((at for at, piece in enumerate(reversed(pieces)) if piece.id != tokenizer.pad_token_id), 0)
    pads = padding(tokenizer, ids, attention, tail)
    answers = [at for at, message in enumerate(messages) if message["role"] == "assistant"]
    if not answers:
        raise LabkitError("The conversation has no answer to learn.", "End it with an assistant's message.")
    targets = answers if learn == "all" else answers[-1:]
    aligned = Aligned(tokenizer, ids, aims, pads, pieces)
    found: dict[str, Fault] = {}
    for name, token, explanation in _found(aligned, [message["role"] for message in messages], targets):
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


# A fault's name, its token, and an explanation.
Found = Iterator[tuple[str, int, str]]


def _found(row: Aligned, roles: list[str], targets: list[int]) -> Found:
    yield from _in_begin_and_padding(row)
    for at, role in enumerate(roles):
        yield from _in_message(row, at, role)
    for at in targets:
        if not row.lost(at):  # of a cut answer, the end is missing as well
            yield from _in_answer(row, at)
    yield from _in_prompt(row, targets)


def _in_begin_and_padding(row: Aligned) -> Found:
    begin, known = row.tokenizer.bos_token_id, {place for place in row.places if place is not None}
    for at in row.kept:
        again = at > 0 and not row.pads[at - 1] and row.ids[at - 1] == begin
        if begin is not None and row.ids[at] == begin and (at not in known or again):
            extra = at if again or row.ids[at + 1 : at + 2] != [begin] else at + 1
            yield "begin token doubled", extra, f"{row.word(extra)} stands there once too often."
    for at, pad in enumerate(row.pads):
        if pad and row.aims[at] != IGNORED:
            yield "padding learned", at, f"The padding {row.word(at)} has a label."
    for at in row.kept:
        if row.aims[at] not in (IGNORED, row.ids[at]):
            yield "labels are other tokens", at, f"The label of {row.word(at)} is another token."


def _in_message(row: Aligned, at: int, role: str) -> Found:
    name = {"assistant": "answer cut"}.get(role, f"{role} message dropped")
    content, lost = row.of(at), row.lost(at)
    if lost or (not content and role == "system"):
        count = f"{len(lost)} of {len(content)} tokens" if content else "All"
        yield name, row.where(lost[0]) if lost else 0, f"{count} of message {at + 1} ({role}) are missing."


def _in_answer(row: Aligned, at: int) -> Found:
    content, stops = row.of(at), row.of(at, STOP)
    inner = [place for i in content if (place := row.places[i]) is not None and not row.pieces[i].edge]
    if unlearned := [place for place in inner if row.aims[place] == IGNORED]:
        yield "answer not learned", unlearned[0], f"{len(unlearned)} of {len(inner)} tokens have no label."
    for header in filter(row.learned, row.of(at, HEADER)):
        yield "header learned", row.where(header), f"{row.word(row.where(header))} has a label."
    if not stops or any(row.places[i] is None for i in stops):
        last = row.where(content[-1]) if content else 0
        yield "stop never learned", last, f"No token ends the answer in message {at + 1}."
    for place in (place for i in stops if (place := row.places[i]) is not None and row.aims[place] == IGNORED):
        pads = row.ids[place] == row.tokenizer.pad_token_id
        also = "; it also pads." if pads else "."
        name = "padding hides the stop" if pads else "stop never learned"
        yield name, place, f"{row.word(place)} ends the answer and has no label{also}"


def _in_prompt(row: Aligned, targets: list[int]) -> Found:
    for i, piece in enumerate(row.pieces):
        # Between header and content stands what some templates let the model write, such as an empty thought.
        own = piece.message in targets or (i + 1 < len(row.pieces) and row.leads(i, targets))
        if not own and not piece.edge and row.learned(i):
            place = row.where(i)
            yield "prompt learned", place, f"{row.word(place)} is not of an answer to learn, and has a label."
