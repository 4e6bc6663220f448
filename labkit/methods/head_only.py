"""Head only: the network stays as it is, and its classifier alone is trained."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from labkit.errors import LabkitError
from labkit.methods.adapter import keep_head, require_no_adapter
from labkit.methods.method import Method, register
from labkit.models.model import Model


@register
@dataclass(frozen=True)
class HeadOnly(Method):
    """Train an encoder's classifier and nothing else: what every other method has to beat.

    A causal model has no classifier: its head scores all tokens of the vocabulary.
    """

    name: ClassVar[str] = "head"
    learning_rate: float = 1e-1

    def apply(self, model: Model, *, inplace: bool = False) -> Model:
        """Return a frozen model over the same weights."""
        require_no_adapter(model)
        if model.kind != "encoder":
            raise LabkitError(
                f"{model.name} has no classifier of its own to train: it answers in words.",
                "Use an encoder such as minilm, or another method.",
            )
        tuned = model if inplace else model.copy(share_weights=True)
        keep_head(tuned)
        tuned.module.requires_grad_(False)
        return tuned

    def save(self, model: Model, folder: Path) -> None:
        """Write nothing: a run keeps the head, whatever the method."""

    def load(self, base: Model, folder: Path) -> Model:
        """Return a frozen model over ``base``'s weights; the run brings the head."""
        return self.apply(base)
