"""LoRA: the weights stay as they are, and each gets a trained update of low rank."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import peft
from torch import nn

from labkit.assets.models import Model
from labkit.errors import LabkitError
from labkit.methods.registry import Method, register, require_positive


@register
@dataclass(frozen=True)
class LoRA(Method):
    """Low-rank adaptation (Hu et al., 2021, arXiv:2106.09685, equation 3): h = Wx + (alpha/rank)·BAx.

    W has shape (out, in) and is frozen; A (rank, in) and B (out, rank) are trained, B from zero, so
    training starts at the unchanged model.

    Attributes:
        learning_rate: about 10 times what suits full fine-tuning.
        rank: columns of B and rows of A.
        alpha: scale of the update, relative to the rank.
        dropout: share of inputs to A that are dropped in training, 0 up to below 1.
        target_modules: names of the linear layers to adapt; ``"all-linear"`` takes every one but the head.
    """

    name: ClassVar[str] = "lora"
    learning_rate: float = 1e-3
    rank: int = 8
    alpha: float = 16
    dropout: float = 0.0
    target_modules: str | Sequence[str] = "all-linear"

    def __post_init__(self):
        super().__post_init__()
        if not isinstance(self.rank, int) or self.rank < 1:
            raise LabkitError(f"rank must be a whole number from 1 up, not {self.rank!r}.", "Try 8.")
        require_positive("alpha", self.alpha)
        if not 0 <= self.dropout < 1:
            raise LabkitError(f"dropout must be from 0 to below 1, not {self.dropout}.", "Try 0.05.")

    def apply(self, model: Model, *, inplace: bool = False) -> Model:
        """Return a model with adapters of its own over the same base weights, which are not copied."""
        tuned = model if inplace else model.copy(share_weights=True)
        targets = self.target_modules
        if isinstance(targets, str) and targets != "all-linear":
            targets = [targets]  # PEFT would take a lone name for a pattern that whole paths must match
        config = peft.LoraConfig(
            r=self.rank,
            lora_alpha=self.alpha,
            lora_dropout=self.dropout,
            target_modules=targets if isinstance(targets, str) else list(targets),
            task_type="CAUSAL_LM" if model.kind == "causal" else "FEATURE_EXTRACTION",
        )
        try:
            with quiet_peft():
                tuned.module = peft.get_peft_model(tuned.module, config)
        except ValueError as problem:
            linear = [name for name, layer in model.module.named_modules() if isinstance(layer, nn.Linear)]
            layers = sorted({name.rsplit(".", 1)[-1] for name in linear})
            raise LabkitError(
                f"LoRA cannot be put on {targets!r}: {problem}",
                f"Choose among the layers {', '.join(layers)}.",
            ) from problem
        skip_casts(tuned.module)
        return tuned

    def save(self, model: Model, folder: Path) -> None:
        """Write the adapter in PEFT's own format, which ``PeftModel.from_pretrained`` reads as well."""
        model.module.save_pretrained(folder)

    def load(self, base: Model, folder: Path) -> Model:
        """Return a model over ``base``'s weights with the saved adapter."""
        shared = base.copy(share_weights=True)
        with quiet_peft():
            # Trainable, so that the adapter can be trained on and its parameters counted.
            tuned = peft.PeftModel.from_pretrained(shared.module, folder, is_trainable=True)
        skip_casts(tuned)
        return replace(shared, module=tuned.eval())


def skip_casts(module: nn.Module) -> None:
    """Keep PEFT from copying each layer's input to float32, which autocast would round right back."""
    for layer in module.modules():
        if hasattr(layer, "cast_input_dtype_enabled"):
            layer.cast_input_dtype_enabled = False


@contextmanager
def quiet_peft() -> Iterator[None]:
    """Hide a warning about an attribute that PEFT still reads and a learner can do nothing about."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*", category=FutureWarning)
        yield
