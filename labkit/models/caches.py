"""Keys and values of two batches as one: what lets a prompt join replies that are growing already."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn.functional import pad
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

KINDS = (DynamicLayer, DynamicSlidingWindowLayer)


def join_caches(cache: Any, other: Any, read: Sequence[int], width: int) -> bool:
    """Put the rows of another cache behind those of ``cache``, and return whether that could be done.

    It can where both hold a key and a value, of shape (rows, heads, tokens, size), for each token that was read. They
    hold more behind virtual tokens, and other things in recurrent networks; ``cache`` then stays as it was.

    Args:
        cache, other: as transformers keeps them; None where there is none.
        read: how many columns of tokens each of the two has read, with padding on the left.
        width: how many columns are kept, on the right: shorter rows get padding, which is never read.
    """
    pairs = [] if cache is None or other is None else list(zip(cache.layers, other.layers, strict=True))
    if not pairs or not all(_plain(layer, count) for pair in pairs for layer, count in zip(pair, read, strict=True)):
        return False
    for mine, theirs in pairs:
        kept = width
        if isinstance(mine, DynamicSlidingWindowLayer):  # it keeps what the next token may look back on
            kept, mine.cumulative_length = min(width, mine.sliding_window - 1), width
        mine.keys = _stacked(mine.keys, theirs.keys, kept)
        mine.values = _stacked(mine.values, theirs.values, kept)
    return True


def _plain(layer: Any, read: int) -> bool:
    return type(layer) in KINDS and layer.is_initialized and layer.get_seq_length() == read


def _stacked(one: torch.Tensor, other: torch.Tensor, width: int) -> torch.Tensor:
    # A negative number of columns to add cuts as many.
    return torch.cat([pad(each, (0, 0, width - each.shape[-2], 0)) for each in (one, other)])
