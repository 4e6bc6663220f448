"""Which tokens of a conversation are learned: what the assistant writes, with the token that ends its turn."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import groupby

from transformers import PreTrainedTokenizerBase

from labkit.conversations.length import shortened
from labkit.conversations.messages import answered
from labkit.conversations.pieces import shared
from labkit.conversations.templates import applied, chat_ids, missing_front
from labkit.errors import LabkitError, require_count, unknown

LEARN = ("last", "all", "completion")


@dataclass(frozen=True)
class Masked:
    """The tokens of a conversation, which of them are learned, and how many messages were cut to make it fit."""

    ids: list[int]
    learned: list[bool]
    cut: int = 0


def masked(
    tokenizer: PreTrainedTokenizerBase, messages: object, learn: str = "last", max_length: int | None = None
) -> Masked:
    """Return a conversation's tokens and which are learned.

    Args:
        tokenizer: whose chat template; where it marks what the assistant writes with ``{% generation %}``, marks rule.
        messages: as ``conversation`` takes them; the last is the assistant's.
        learn: "all" replies, or the "last"; "completion" is all that follows the prompt, as TRL has it.
        max_length: where the conversation is longer, its oldest turns are cut, the system message stays.

    Raises:
        LabkitError: no reply, a template whose replies can't be told apart or never end, or a last turn too long.
    """
    if learn not in LEARN:
        raise unknown("part of a conversation to learn", learn, LEARN)
    if max_length is not None:
        max_length = require_count("max_length", max_length)
    kept = shortened(tokenizer, answered(messages), max_length)
    return Masked(kept.ids, _mask(tokenizer, kept.turns, kept.ids, learn), kept.cut)


def _mask(tokenizer: PreTrainedTokenizerBase, turns: list[dict[str, str]], ids: list[int], learn: str) -> list[bool]:
    if learn != "completion" and re.search(r"\{%-?\s*generation\s*-?%\}", str(tokenizer.chat_template)):
        found = applied(tokenizer, turns, tokenize=True, return_dict=True, return_assistant_tokens_mask=True)
        mask = [False] * len(missing_front(tokenizer, found["input_ids"])) + [bool(m) for m in found["assistant_masks"]]
        runs = [list(run) for marked, run in groupby(range(len(ids)), lambda i: mask[i]) if marked]
        spans = [(run[0], run[-1] + 1) for run in runs]
    else:
        replies = [i for i, turn in enumerate(turns) if turn["role"] == "assistant"]
        wanted = replies if learn == "all" else replies[-1:]
        spans = [_span(tokenizer, turns, i, ids) for i in wanted]
    expected = [turn["content"] for turn in turns if turn["role"] == "assistant"]
    expected = expected if learn == "all" or len(spans) > 1 else expected[-1:]
    added = set(tokenizer.get_added_vocab().values())
    for number, (start, end) in enumerate(spans):
        written = [i for i in ids[start:end] if str(tokenizer.decode([i])).strip()]
        said = expected[number].split("</think>")[-1].strip() if number < len(expected) else ""
        if len(spans) != len(expected) or said not in str(tokenizer.decode(ids[start:end])) or written[-1] not in added:
            raise LabkitError(
                f"What the assistant says in reply {number + 1} can't be told apart in this chat template, or no token "
                "ends it.",
                "Set a template with {% generation %} marks that ends each reply, such as "
                "labkit.conversations.templates.CHATML.",
            )
    if not spans:
        raise LabkitError("The chat template marks nothing as the assistant's.", "Mark replies with {% generation %}.")
    spans = spans if learn == "all" else spans[-1:]
    return [any(start <= i < end for start, end in spans) for i in range(len(ids))]


def _span(tokenizer: PreTrainedTokenizerBase, turns: list[dict[str, str]], at: int, ids: list[int]) -> tuple[int, int]:
    """Return where a reply begins and ends: where the tokens leave the prompt, and where they leave the next one."""
    start = shared(ids, chat_ids(tokenizer, turns[:at], reply=True))
    # The prompt may end with more than a reply begins with, such as <think>; but all before it must be the same.
    if start < shared(chat_ids(tokenizer, turns[:at], reply=True), chat_ids(tokenizer, turns[:at])):
        raise LabkitError(
            f"The chat template writes what comes before message {at + 1} differently once that message follows.",
            "Set a template with {% generation %} marks, such as labkit.conversations.templates.CHATML.",
        )
    return start, len(ids) if at == len(turns) - 1 else shared(ids, chat_ids(tokenizer, turns[: at + 1]))
