"""From conversations to examples: supervised fine-tuning on what the assistant says."""

from __future__ import annotations

from collections.abc import Sequence

from labkit.conversations.length import OLDEST
from labkit.conversations.masks import masked
from labkit.errors import LabkitError
from labkit.models.model import Model
from labkit.models.truncation import say_lost
from labkit.training.batching import Example


def encode_conversations(
    model: Model, conversations: Sequence[object], max_length: int, learn: str = "last"
) -> list[Example]:
    """Tokenize conversations; each ``Example.mask`` says which tokens are learned.

    A conversation longer than ``max_length``, or than the model can read, loses its oldest turns, and a
    ``TruncationWarning`` says how many did.

    Raises:
        LabkitError: a conversation can't be used; the message names it by its number.
    """
    most, examples, cut = min(max_length, model.max_length), [], 0
    for number, messages in enumerate(conversations, 1):
        try:
            found = masked(model.tokenizer, messages, learn, most)
        except LabkitError as problem:
            raise LabkitError(f"Conversation {number}: {problem.cause}", problem.remedy) from problem
        cut += found.cut > 0
        examples.append(Example(found.ids, sum(found.learned), mask=tuple(found.learned)))
    say_lost(cut, len(conversations), "conversation", OLDEST, most)
    return examples
