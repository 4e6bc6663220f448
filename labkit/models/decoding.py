"""Rows of tokens that a model continues together, token by token."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import pad

from labkit.models.caches import join_caches
from labkit.models.encoding import padding_id

if TYPE_CHECKING:
    from labkit.models.model import Model


class Decoding:
    """Prompts of a batch, padded on the left, with the cache of what was read.

    A row's result is what it would be alone, up to rounding: padding is masked, positions count from the first token
    of the row.

    Args:
        model: a causal model.
        rows: ids of the prompts.
        once: read a prompt once that several rows share. Not where the network treats rows differently.

    Attributes:
        alive: the numbers of the rows that are still continued, in the order of the logits.
        cache: keys and values of what was read, as transformers keeps them; None before, or where there is no cache.
    """

    def __init__(self, model: Model, rows: Sequence[Sequence[int]], once: bool = False):
        self.model, self.alive = model, list(range(len(rows)))
        width = max(map(len, rows))
        self._ids = torch.full((len(rows), width), padding_id(model))
        mask = torch.zeros_like(self._ids)
        for row, ids in enumerate(rows):
            self._ids[row, width - len(ids) :] = torch.tensor(ids)
            mask[row, width - len(ids) :] = 1
        self._ids, self._mask = self._ids.to(model.device), mask.to(model.device)
        self._padded = not mask.all()
        self.cache: Any = None
        self._takes_positions = "position_ids" in inspect.signature(model.module.forward).parameters
        first = {tuple(ids): row for row, ids in reversed([*enumerate(rows)])}
        self._first = [first[tuple(ids)] for ids in rows] if once and len(first) < len(rows) else None

    def logits(self) -> torch.Tensor:
        """Return the logits of the next token, shape (rows alive, vocabulary), in float32.

        Call it inside ``with inference(model)``.
        """
        if self._first is None:
            return self._read()
        different = sorted({*self._first})
        places = torch.tensor([different.index(row) for row in self._first], device=self._ids.device)
        ids, mask, self._first = self._ids, self._mask, None
        self._ids, self._mask = ids[different], mask[different]
        logits = self._read()
        self._ids, self._mask = ids, mask
        self._select(places)
        return logits[places]

    def _read(self) -> torch.Tensor:
        # What was read before is in the cache, where the architecture has one; else everything is read again.
        inputs = {"input_ids": self._ids if self.cache is None else self._ids[:, -1:]}
        if self._padded:
            inputs["attention_mask"] = self._mask
        if self.cache is not None:
            inputs["past_key_values"] = self.cache
        # Some networks, such as Bamba, would count from 0 again behind a cache.
        if self._takes_positions and (self._padded or self.cache is not None):
            positions = (self._mask.cumsum(1) - 1).clamp(min=0)
            inputs["position_ids"] = positions[:, -inputs["input_ids"].shape[1] :]
        output = self.model.module(**inputs, use_cache=True, logits_to_keep=1)
        self.cache = output.get("past_key_values")
        return output.logits[:, -1].float()

    def append(self, tokens: torch.Tensor, keep: Sequence[bool]) -> None:
        """Add a token to each row, and drop the rows that are not to be kept, with their part of the cache."""
        self._ids = torch.cat([self._ids, tokens[:, None]], dim=1)
        self._mask = torch.cat([self._mask, self._mask.new_ones(len(tokens), 1)], dim=1)
        if all(keep):
            return
        self.alive = [row for row, kept in zip(self.alive, keep, strict=True) if kept]
        places = torch.tensor([place for place, kept in enumerate(keep) if kept], device=self._ids.device)
        self._ids, self._mask = self._ids[places], self._mask[places]
        self._select(places)

    def _select(self, places: torch.Tensor) -> None:
        if any(hasattr(layer, "conv_states") for layer in getattr(self.cache, "layers", ())):
            self.cache = None  # a recurrent state can't change its rows: everything is read again, once
        if self.cache is not None:
            self.cache.batch_select_indices(places)

    def join(self, other: Decoding) -> None:
        """Continue the rows of another batch of the same model, too, behind these; ``alive`` numbers all of them anew.

        Call it when ``append`` was the last call on both. The narrower batch is padded, and columns go that no row
        needs any more.
        """
        both = self, other
        width = int(max(batch._mask.sum(1).max() for batch in both))
        if not join_caches(self.cache, other.cache, [batch._ids.shape[1] - 1 for batch in both], width - 1):
            self.cache = None  # everything is read again, once
        self._ids = torch.cat([pad(batch._ids, (width - batch._ids.shape[1], 0)) for batch in both])
        self._mask = torch.cat([pad(batch._mask, (width - batch._mask.shape[1], 0)) for batch in both])
        self._padded = not self._mask.all()
        self.alive = list(range(len(self._ids)))


def pads(model: Model) -> bool:
    """Return whether prompts of several lengths may share a batch.

    They may not in a recurrent network, whose state would take padding in, nor where a window slides over virtual
    tokens, which stand before the padding.
    """
    recurrent = getattr(model.module, "_is_stateful", False)  # as transformers marks such networks
    if recurrent or "attention_mask" not in inspect.signature(model.module.forward).parameters:
        return False
    slides = getattr(model.module.config, "sliding_window", None) is not None
    return not (slides and hasattr(model.module, "virtual_tokens") and not model.disabled)
