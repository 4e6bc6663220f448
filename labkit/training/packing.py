"""Packing: several examples in a row, each read as if it were alone, so that almost no padding is computed."""

from __future__ import annotations

import random
from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Sequence

from labkit.errors import LabkitError
from labkit.models.architectures import ARCHITECTURES, of_kind
from labkit.models.model import Model
from labkit.training.batching import Example


def pack(lengths: Sequence[int], room: int) -> list[list[int]]:
    """Return rows of examples, by number: each example in one row, and at most ``room`` tokens in a row.

    Best-fit decreasing: from the longest example to the shortest, each goes into the fullest row that has room for it.
    Of examples of one length, the first comes first. That takes at most 11/9 of the rows of the best packing, and four
    more (Johnson et al., 1974, doi:10.1137/0203025). Packing for language models: Ding et al., 2024, arXiv:2404.10830.

    Raises:
        LabkitError: an example is longer than a row.
    """
    if lengths and max(lengths) > room:
        raise LabkitError(
            f"An example of {max(lengths)} tokens doesn't fit into rows of {room}.",
            f"Set max_length to {max(lengths)} or more.",
        )
    rows: list[list[int]] = []
    left: list[int] = []  # the sizes of gaps, in order, each once
    with_gap: defaultdict[int, list[int]] = defaultdict(list)  # the rows with a gap of a size
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        at = bisect_left(left, lengths[i])
        if at == len(left):
            row, gap = len(rows), room
            rows.append([])
        else:
            gap = left[at]
            row = with_gap[gap].pop()
            if not with_gap[gap]:
                del left[at]
        rows[row].append(i)
        gap -= lengths[i]
        if not with_gap[gap]:
            insort(left, gap)
        with_gap[gap].append(row)
    return rows


def plan_rows(lengths: Sequence[int], room: int, batch_size: int, batches: int, seed: int) -> list[list[list[int]]]:
    """Return the examples of each row of each batch of a run, by number.

    Each epoch packs every example once. It shuffles the examples before, so that those of one length change places,
    and the rows after. Rows that don't fill a batch are carried over to the next epoch.

    Raises:
        LabkitError: there are no examples, or one is longer than a row.
    """
    if not lengths or batch_size < 1:
        raise LabkitError(
            f"{len(lengths)} examples in batches of {batch_size} rows make no batch.",
            "Pass at least one example, and a batch_size from 1 up.",
        )
    rng = random.Random(seed)
    stream: list[list[int]] = []
    plan: list[list[list[int]]] = []
    while len(plan) < batches:
        order = list(range(len(lengths)))
        rng.shuffle(order)
        rows = [[order[i] for i in row] for row in pack([lengths[i] for i in order], room)]
        rng.shuffle(rows)
        stream += rows
        whole = len(stream) // batch_size * batch_size
        plan += [stream[i : i + batch_size] for i in range(0, whole, batch_size)]
        stream = stream[whole:]
    return plan[:batches]


def join(examples: Sequence[Example]) -> Example:
    """Return examples as one row; a single one is returned as it is.

    The first token of each is never learned: what precedes it in the row is another example.
    """
    if len(examples) == 1:
        return examples[0]
    mask = tuple(i > 0 and learned for e in examples for i, learned in enumerate(e.is_learned))
    tokens = [token for example in examples for token in example.tokens]
    return Example(tokens, sum(mask), mask=mask, parts=tuple(len(example.tokens) for example in examples))


def require_packable(model: Model, method: object = None) -> None:
    """Raise a ``LabkitError`` where the examples of a packed row would see each other.

    Args:
        model: the model to train.
        method: how, if the model doesn't have its parameters yet. Virtual tokens stand before a row, so only its first
            example would read them as it should.
    """
    alone = "Set packing=False: batches of examples of similar length need little padding as well."
    if model.kind == "encoder":
        raise LabkitError(f"{model.name} is an encoder, which reads one text in each row.", alone)
    if getattr(method, "virtual_tokens", 0) or getattr(model.module, "virtual_tokens", None) is not None:
        raise LabkitError("Virtual tokens stand before a row, not before each example that is packed into it.", alone)
    known = ARCHITECTURES.get(model.module.config.model_type)
    if known is None or not known.packed:
        able = ", ".join(each.title for each in of_kind("causal").values() if each.packed)
        what = known.title if known else model.module.config.model_type
        raise LabkitError(
            f"{model.name} is {what}, in which the examples of a packed row would see each other.",
            f"{alone} Models that can be packed: {able}.",
        )
