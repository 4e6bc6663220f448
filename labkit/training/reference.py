"""The reference of preference learning: what a model said before its training, computed once."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext

import torch

from labkit.errors import LabkitError
from labkit.methods import disable_adapter
from labkit.methods.adapter import adapters_of
from labkit.models.model import Model
from labkit.training.batching import Example
from labkit.training.inference import infer
from labkit.training.pairs import log_probabilities


class Reference:
    """Log-probabilities of completions before training, by the rows of tokens that they stand in.

    Args:
        model: before its first step, or with an adapter that can be disabled.
    """

    def __init__(self, model: Model):
        self._model = model
        self._known: dict[tuple, torch.Tensor] = {}

    def ask(self, rows: Sequence[Example]) -> None:
        """Compute what is not known yet of a batch, in one forward pass: so rounding is that of the training step."""
        new = {_key(row): row for row in rows if _key(row) not in self._known}
        if new:
            self._known |= zip(new, reference_log_probabilities(self._model, list(new.values()), len(new)), strict=True)

    def of(self, rows: Sequence[Example]) -> torch.Tensor:
        """Return the log-probabilities of rows, in nats, shape (rows,)."""
        return torch.stack([self._known[_key(row)] for row in rows]).to(self._model.device)


def _key(row: Example) -> tuple:
    return tuple(row.tokens), row.is_learned


def reference_log_probabilities(
    model: Model, examples: Sequence[Example], size: int = 16, reference: Model | None = None
) -> torch.Tensor:
    """Return the log-probabilities of completions before training, shape (examples,), on the CPU.

    They are the model's own with its adapter disabled, so that no second copy of the weights is needed. A model
    without an adapter is taken as it is: full fine-tuning must ask before its first step.

    Args:
        model: the model in training.
        examples: rows of tokens.
        size: rows in a forward pass.
        reference: another model to ask instead.

    Raises:
        LabkitError: the reference has another vocabulary.
    """
    if reference is not None and reference.tokenizer.get_vocab() != model.tokenizer.get_vocab():
        raise LabkitError(
            f"{reference.name} has another vocabulary than {model.name}: its numbers of tokens mean other words.",
            "Use a reference with the same tokenizer, such as the model before training.",
        )
    asked = model if reference is None else reference
    with disable_adapter(asked) if reference is None and adapters_of(asked) else nullcontext():
        return infer(asked, examples, size, lambda part: log_probabilities(asked, part)[0])
