"""Conversations longer than what is read at once: whole turns are cut, the oldest first."""

from __future__ import annotations

from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from labkit.conversations.templates import chat_ids
from labkit.errors import LabkitError

OLDEST = "oldest turns"  # what a conversation loses


@dataclass(frozen=True)
class Kept:
    """What is left of a conversation: its messages and their tokens, and how many messages were cut."""

    turns: list[dict[str, str]]
    ids: list[int]
    cut: int = 0


def shortened(
    tokenizer: PreTrainedTokenizerBase, turns: list[dict[str, str]], room: int | None, *, reply: bool = False
) -> Kept:
    """Return a conversation without as many of its oldest turns as must go; the system message stays.

    A question goes together with its reply: what is left begins with a question, as every conversation does.

    Args:
        tokenizer: whose chat template.
        turns: messages as ``conversation`` gives them.
        room: how many tokens there is room for; None for any number.
        reply: the tokens go up to where the assistant begins to speak.

    Raises:
        LabkitError: there is no room for the last turn, or the template can't write the conversation.
    """
    system = turns[:1] if turns[0]["role"] == "system" else []
    rest = turns[len(system) :]
    for cut in range(0, len(rest), 2):
        left = system + rest[cut:]
        ids = chat_ids(tokenizer, left, reply=reply)
        if room is None or len(ids) <= room:
            return Kept(left, ids, cut)
    raise LabkitError(
        f"The last turn of the conversation takes {len(ids)} tokens, and there is room for {max(room or 0, 0)}.",
        "Make more room with max_length or fewer new tokens, shorten the turn, or leave the conversation out.",
    )
