"""What each token of a rendered conversation is, found by rendering it again with something changed.

No template's strings are known here. A message stands where the text changes when the message does; the template's own
beginning of an answer is what it adds when it is asked for a reply; and the token that ends an answer is the first
special token behind it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from labkit.conversations.pieces import shared
from labkit.errors import LabkitError, first_line

HEADER, CONTENT, STOP, TAIL, TEMPLATE = "header", "content", "stop", "tail", "template"


@dataclass(frozen=True)
class Piece:
    """One token of the rendered conversation.

    Attributes:
        id: of the token.
        kind: ``"header"`` (the template's beginning of an answer), ``"content"``, ``"stop"`` (it ends an answer),
            ``"tail"`` (the template's, behind it), or ``"template"``.
        message: the index of the message it belongs to; -1 for the template's own.
        edge: whether it holds characters of the content and of the template as well.
    """

    id: int
    kind: str = TEMPLATE
    message: int = -1
    edge: bool = False


def pieces_of(tokenizer: Any, messages: list[dict], chat_template: str | None = None) -> list[Piece]:
    """Return the tokens of a conversation as the tokenizer's template renders it, each with what it is.

    Raises:
        LabkitError: the template can't render the conversation, or the tokenizer doesn't say where a token stands.
    """
    whole = render(tokenizer, messages, chat_template)
    ids, places = _tokens(tokenizer, whole)
    pieces = [Piece(token) for token in ids]
    contents = [_content(tokenizer, messages, at, whole, chat_template) for at in range(len(messages))]
    special = {*tokenizer.all_special_ids, *tokenizer.get_added_vocab().values()}
    for at, span in enumerate(contents):
        if span is None:
            continue
        start, end = span
        for token, (first, last) in enumerate(places):
            if first < end and last > start:
                pieces[token] = Piece(ids[token], CONTENT, at, first < start or last > end)
        if messages[at]["role"] != "assistant":
            continue
        before = [other[1] for other in contents[:at] if other]
        opened = _attempt(tokenizer, messages[:at], chat_template, reply=True)
        closed = _tokens(tokenizer, _attempt(tokenizer, messages[:at], chat_template) or "")[0]
        from_token = shared(closed, ids)
        until = min(start, shared(opened or "", whole))
        floor = max(before, default=0)
        for token, (first, last) in enumerate(places):
            if token >= from_token and first >= floor and last <= until and pieces[token].kind == TEMPLATE:
                pieces[token] = replace(pieces[token], kind=HEADER, message=at)
        later = min((other[0] for other in contents[at + 1 :] if other), default=len(whole))
        behind = [t for t, (first, _) in enumerate(places) if end <= first < later]
        stop = next((t for t in behind if ids[t] in special), None)
        done = _tokens(tokenizer, _attempt(tokenizer, messages[: at + 1], chat_template) or "")[0]
        limit = shared(done, ids)
        closing = [t for t in behind if t < limit]
        stops = [stop] if stop is not None else [t for t in closing if whole[slice(*places[t])].strip()]
        for token in {*closing, *stops}:
            pieces[token] = replace(pieces[token], kind=STOP if token in stops else TAIL, message=at)
    return pieces


def render(tokenizer: Any, messages: list[dict], chat_template: str | None = None, *, reply: bool = False) -> str:
    """Return a conversation as the template writes it; with ``reply``, up to where an answer begins.

    Raises:
        LabkitError: the template refuses it.
    """
    try:
        return tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=reply, chat_template=chat_template
        )
    except Exception as problem:  # jinja's, and whatever the template raises
        raise LabkitError(
            f"The chat template can't render this conversation: {first_line(problem)}",
            "Change the messages, or pass another chat_template.",
        ) from problem


def _attempt(tokenizer: Any, messages: list[dict], chat_template: str | None, *, reply: bool = False) -> str | None:
    """Return a part of the conversation, or None where the template refuses it, such as one without a question."""
    try:
        return render(tokenizer, messages, chat_template, reply=reply) if messages else ""
    except LabkitError:
        return None


def _content(
    tokenizer: Any, messages: list[dict], at: int, whole: str, chat_template: str | None
) -> tuple[int, int] | None:
    """Return where a message's content stands in the text, in characters; None where the template drops it."""
    content = messages[at]["content"]
    text = content if isinstance(content, str) else "".join(block.get("text", "") for block in content)
    # Its ends differ from the content's, so that the texts part exactly where the content begins and ends.
    letter = next(letter for letter in "QZX" if letter not in (text.strip()[:1], text.strip()[-1:]))
    probe = letter * 3
    changed = probe if isinstance(content, str) else [{"type": "text", "text": probe}]
    messages = [*messages[:at], {**messages[at], "content": changed}, *messages[at + 1 :]]
    other = render(tokenizer, messages, chat_template)
    if other == whole:
        return None
    start = shared(whole, other)
    same = shared(whole[start:][::-1], other[start:][::-1])
    return start, len(whole) - same


def _tokens(tokenizer: Any, text: str) -> tuple[list[int], list[tuple[int, int]]]:
    if not tokenizer.is_fast:
        raise LabkitError("This tokenizer doesn't say where its tokens stand.", "Load it with use_fast=True.")
    made = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    return made["input_ids"], made["offset_mapping"]
