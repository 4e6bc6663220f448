"""Replies that grow in one batch and are continued by several adapters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from labkit.generation.casts import Casts
from labkit.generation.replies import Replies
from labkit.methods.selection import Selection
from labkit.models.evaluation_mode import inference
from labkit.models.model import Model


class MixedReplies(Replies):
    """Replies of several specialists that grow together, row by row the same as of each alone.

    Args:
        model, selection: as ``with_selection`` gives them.
        casts: of the model's weights.
        chosen: the number of each row's adapter.
        *others: what ``Replies`` takes from ``rows`` on.
    """

    alike = False

    def __init__(self, model: Model, selection: Selection, casts: Casts, chosen: Sequence[int], *others: Any):
        super().__init__(model, *others)
        self._selection, self._casts, self._chosen = selection, casts, list(chosen)
        self._dropped: set[int] = set()

    def step(self) -> bool:
        """Add a token to each reply that isn't finished, and return whether any is left."""
        alive = self._decoding.alive
        if not any(map(self.goes_on, alive)):
            return False
        chosen = [self._chosen[row] for row in alive]
        with inference(self.model), self._casts.swapped(), self._selection.choosing(chosen, self.model.device):
            return super().step()

    def drop(self, row: int) -> None:
        """Give a reply up: it gets at most one more token, and its place in the batch is free after the next step."""
        self._dropped.add(row)

    def goes_on(self, row: int) -> bool:
        """Return whether a reply gets another token."""
        return row not in self._dropped and super().goes_on(row)
