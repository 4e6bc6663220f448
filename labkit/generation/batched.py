"""Continue many prompts at once: a token's cost is reading the weights, which a batch reads once for all its rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from labkit.errors import LabkitError, require_count, require_seed, shown
from labkit.generation.casts import Casts
from labkit.generation.prompts import Prompts, fitted
from labkit.generation.replies import Replies, Reply
from labkit.generation.sampling import Sampling, random_numbers
from labkit.models.decoding import pads
from labkit.models.evaluation_mode import inference
from labkit.models.model import Model


def generate(
    model: Model,
    prompts: Prompts,
    max_new_tokens: int = 20,
    *,
    sampling: Sampling | None = None,
    stop: Sequence[str] = (),
    batch_size: int = 16,
    seed: int = 0,
    logprobs: bool = False,
    drawn: bool = False,
) -> list[Reply]:
    """Continue prompts in batches, and return the replies in the prompts' order.

    In float32, greedy replies are those of ``model.generate``. In bfloat16, the order of sums depends on the
    size of a batch, so rounding may decide otherwise between two tokens that are about as likely. The same seed gives
    the same texts, whatever the order of the prompts and, up to rounding, the size of a batch.

    Args:
        model: a causal model, with or without an adapter.
        prompts: texts; or lists of token ids, which are read as they are; or conversations, as ``chat`` takes them.
        max_new_tokens: the most tokens of a reply. A prompt that leaves no room for these loses its beginning, a
            conversation its oldest turns, with a ``TruncationWarning``.
        sampling: how tokens are drawn; None takes the likeliest each time.
        stop: texts that end a reply, beside the tokens that end texts to the tokenizer or to the model.
        batch_size: prompts that are read together.
        seed: of the random numbers that tokens are drawn with.
        logprobs: give the log-probabilities of the tokens, too.
        drawn: with ``sampling``, give what the tokens were drawn with, too: what training on the replies needs.

    Raises:
        LabkitError: the model is an encoder, a prompt is no text, no known ids, no conversation, or there is no room.
    """
    count, size = require_count("max_new_tokens", max_new_tokens), require_count("batch_size", batch_size)
    seed, ends = require_seed(seed), texts_of(stop)
    rows = fitted(model, prompts, count)
    numbers = None if sampling is None else random_numbers(rows, count, seed)
    made: dict[int, Reply] = {}
    with inference(model), Casts(model).swapped():
        for part in batches_of(rows, size, pads(model)):
            own = None if numbers is None else numbers[part]
            replies = Replies(model, [rows[i] for i in part], count, sampling, own, ends, logprobs, drawn)
            while replies.step():
                pass
            made.update(zip(part, replies.finished(), strict=True))
    return [made[i] for i in range(len(rows))]


def texts_of(stop: Sequence[str]) -> tuple[str, ...]:
    """Return the texts that end a reply, checked."""
    if (
        isinstance(stop, str)
        or not isinstance(stop, Iterable)
        or not all(isinstance(text, str) and text for text in stop)
    ):
        raise LabkitError(f"stop is no list of texts: {shown(stop)}.", r'Pass one, such as ["\n"].')
    return tuple(stop)


def batches_of(rows: Sequence[Sequence[int]], size: int, padded: bool) -> Iterator[list[int]]:
    """Yield the numbers of the rows of each batch: similar lengths together, or equal ones where nothing can pad."""
    order = sorted(range(len(rows)), key=lambda i: -len(rows[i]))  # if memory is short, it is at once
    groups = [order] if padded else [list(same) for _, same in groupby(order, key=lambda i: len(rows[i]))]
    for group in groups:
        yield from (group[i : i + size] for i in range(0, len(group), size))
