"""Pairs of completions, one chosen and one rejected: from messages to tokens and to their log-probabilities.

A list of pairs is a list of examples in which chosen and rejected ones alternate.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from labkit.conversations.length import OLDEST
from labkit.conversations.masks import Masked, masked
from labkit.conversations.messages import conversation
from labkit.errors import LabkitError, shown
from labkit.models.model import Model
from labkit.models.truncation import say_lost
from labkit.training.batching import IGNORED, Batch, Example
from labkit.training.objectives import completion_loss

COLUMNS = ("prompt", "chosen", "rejected")


def encode_pairs(model: Model, rows: Sequence[Mapping[str, object]], max_length: int) -> list[Example]:
    """Return two examples of each row: its chosen completion, then its rejected one, both after the same prompt.

    Where the longer of both is longer than ``max_length``, or than the model can read, both lose their oldest turns,
    and a ``TruncationWarning`` says how many pairs did.

    Args:
        model: whose chat template.
        rows: each with ``prompt``, messages of which the last is the user's, and ``chosen`` and ``rejected``, lists of
            one message of the assistant.
        max_length: tokens of prompt and completion.

    Raises:
        LabkitError: a row can't be used, such as one whose completions are the same; the message names it.
    """
    most, examples, cut = min(max_length, model.max_length), [], 0
    for number, row in enumerate(rows, 1):
        try:
            both = [_conversation(row, column) for column in COLUMNS[1:]]
            found = _encode(model, both, most)
        except LabkitError as problem:
            raise LabkitError(f"Row {number}: {problem.cause}", problem.remedy) from problem
        cut += found[0].cut > 0
        examples += [Example(each.ids, sum(each.learned), mask=tuple(each.learned)) for each in found]
    say_lost(cut, len(rows), "pair", OLDEST, most)
    return examples


def _conversation(row: Mapping[str, object], column: str) -> list[dict[str, str]]:
    prompt, reply = row["prompt"], row[column]
    asked = conversation(prompt, "The prompt")
    if asked[-1]["role"] != "user":
        raise LabkitError("The prompt ends with a reply.", "Let its last message be the user's.")
    if not isinstance(reply, list | tuple) or len(reply) != 1:
        raise LabkitError(
            f"{column} is not a list of one message but {shown(reply)}.",
            f"Write {column} as [{{'role': 'assistant', 'content': …}}].",
        )
    if isinstance(reply[0], dict) and not str(reply[0].get("content") or "").strip():
        raise LabkitError(f"The {column} completion is empty.", "Write something, or leave the row out.")
    return conversation([*asked, reply[0]], f"The conversation with the {column} completion")


def _encode(model: Model, both: list[list[dict[str, str]]], most: int) -> list[Masked]:
    found = [masked(model.tokenizer, turns, max_length=most) for turns in both]
    cut = max(each.cut for each in found)
    if any(each.cut < cut for each in found):  # the longer completion decides how much is left of the prompt of both
        start = both[0][0]["role"] == "system"
        left = [turns[:start] + turns[start + cut :] for turns in both]
        found = [Masked(each.ids, each.learned, cut) for each in (masked(model.tokenizer, turns) for turns in left)]
    if found[0].ids == found[1].ids:
        raise LabkitError(
            f"Its chosen and its rejected completion are the same: {shown(both[0][-1]['content'])}.",
            "Leave the row out: there is nothing to prefer.",
        )
    return found


def log_probabilities(model: Model, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Return log π(completion | prompt) of each row, in nats, and its number of tokens, each of shape (rows,).

    Logits are computed only where a token of a completion is predicted, and the sums in float32.
    """
    losses, _ = completion_loss(model, batch, reduction="none")
    wanted = batch.targets[:, 1:] != IGNORED
    # Not index_add, which adds up in any order on CUDA: a resumed run needs the same sums.
    table = torch.zeros(wanted.shape, dtype=losses.dtype, device=losses.device).masked_scatter(wanted, -losses)
    return table.sum(dim=1), wanted.sum(dim=1)


def mismatched(pairs: Sequence[Example], room: int) -> list[Example]:
    """Return pairs with the same completions, each after the prompt of another pair, for KTO's baseline.

    Of all chosen completions and then all rejected ones, each moves on by one prompt, as in TRL. One that doesn't fit
    into ``room`` tokens there loses its end.
    """
    rows = [*pairs[::2], *pairs[1::2]]
    moved = [_joined(reads, says, room) for reads, says in zip(rows, rows[-1:] + rows[:-1], strict=True)]
    half = len(moved) // 2
    return [row for both in zip(moved[:half], moved[half:], strict=True) for row in both]


def _joined(reads: Example, says: Example, room: int) -> Example:
    """Return the prompt of one example with the completion of another."""
    start, begin = reads.is_learned.index(True), says.is_learned.index(True)
    tokens = (reads.tokens[:start] + says.tokens[begin:])[:room]
    mask = ((False,) * start + says.is_learned[begin:])[:room]
    return Example(tokens, sum(mask), mask=mask)
