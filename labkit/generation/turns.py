"""Which tokens end the assistant's turn, also for tokenizers that know no conversations."""

from __future__ import annotations

from transformers import PreTrainedTokenizerBase

from labkit.conversations.templates import turn_ends
from labkit.errors import LabkitError


def ends_of_turns(tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """Return ``turn_ends``; none where there is no chat template, or one that writes no plain conversation."""
    try:
        return turn_ends(tokenizer)
    except LabkitError:
        return set()
