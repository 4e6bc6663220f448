"""A conversation with a model, whole or piece by piece."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, overload

from labkit.errors import require_count, require_seed
from labkit.generation.casts import Casts
from labkit.generation.prompts import asked, fitted
from labkit.generation.replies import Replies
from labkit.generation.sampling import Sampling, random_numbers
from labkit.models.evaluation_mode import inference
from labkit.models.model import Model

UNFINISHED = "\N{REPLACEMENT CHARACTER}"  # what decoders write for a character of which only some bytes are there


@overload
def chat(
    model: Model,
    messages: Sequence[dict],
    *,
    max_new_tokens: int = ...,
    sampling: Sampling | None = ...,
    stream: Literal[False] = ...,
    seed: int = ...,
) -> str: ...
@overload
def chat(
    model: Model,
    messages: Sequence[dict],
    *,
    max_new_tokens: int = ...,
    sampling: Sampling | None = ...,
    stream: Literal[True],
    seed: int = ...,
) -> Iterator[str]: ...
def chat(
    model: Model,
    messages: Sequence[dict],
    *,
    max_new_tokens: int = 200,
    sampling: Sampling | None = None,
    stream: bool = False,
    seed: int = 0,
) -> str | Iterator[str]:
    """Return the assistant's reply to a conversation, or its pieces as they come.

    The pieces together are the reply. A character comes when all its bytes are there.

    Args:
        model: a causal model whose tokenizer has a chat template.
        messages: a list of ``{"role": "system", "user" or "assistant", "content": text}``, the user's last.
        max_new_tokens: the most tokens of a reply. A conversation that leaves no room for these loses its oldest
            turns, with a ``TruncationWarning``; a system message stays.
        sampling: how tokens are drawn; None takes the likeliest.
        stream: return an iterator of pieces of text.
        seed: of the random numbers that tokens are drawn with.

    Raises:
        LabkitError: the messages are bad or end with a reply, there is no chat template or it refuses the messages, or
            there is no room.
    """
    count, seed = require_count("max_new_tokens", max_new_tokens), require_seed(seed)
    rows = fitted(model, [asked(messages)], count)
    numbers = None if sampling is None else random_numbers(rows, count, seed)
    pieces = _pieces(model, Replies(model, rows, count, sampling, numbers))
    return pieces if stream else "".join(pieces)


def _pieces(model: Model, replies: Replies) -> Iterator[str]:
    casts, given, more = Casts(model), "", True
    while more:
        # Entered for each token: between two pieces, the caller may train or ask something else of the model.
        with inference(model), casts.swapped():
            more = replies.step()
        text = replies.text(0)
        # A later token may change a character that isn't whole yet; all before it stays.
        ready = text if not more else text.rstrip(UNFINISHED)
        if ready.startswith(given) and len(ready) > len(given):
            yield ready[len(given) :]
            given = ready
