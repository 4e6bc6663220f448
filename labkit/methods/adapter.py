"""What an adapter is: a trained part inside a model whose own weights are frozen."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod

import torch
from torch import nn

from labkit.errors import LabkitError
from labkit.models.model import Model
from labkit.quant.matrix import turned


class Adapter(nn.Module, ABC):
    """A trained part that was put into a model.

    Attributes:
        of_layer: whether it belongs to one layer, or to the model as a whole.
        base: the layer that it belongs to.
        disabled: whether the model computes as if it weren't there; see ``disable_adapter``.
    """

    of_layer = True
    base: nn.Module
    disabled = False

    def __call__(self, *inputs, **named):
        """Return the adapted layer's output, or the layer's own while the adapter is disabled."""
        return self.base(*inputs, **named) if self.disabled else super().__call__(*inputs, **named)

    def start(self) -> None:
        """Compute from the weights where training starts. It may take long, and a loaded adapter skips it."""

    @abstractmethod
    def factors(self) -> dict[str, torch.Tensor]:
        """Return the trained tensors, under their names in PEFT's files."""

    @abstractmethod
    def set_factors(self, factors: dict[str, torch.Tensor]) -> None:
        """Set the values that ``factors`` returned."""


class MergeableLinear(Adapter):
    """An adapter around a linear layer that can become part of its weight."""

    def __init__(self, base: nn.Module):
        super().__init__()
        self.base = base.requires_grad_(False)
        self.original: dict[str, nn.Parameter] = {}  # the base's weights from before a merge

    @abstractmethod
    def combined(self) -> dict[str, torch.Tensor]:
        """Return the new values of the base's weights that the adapter changes, in float32; a matrix as (out, in)."""

    @property
    def frozen(self) -> torch.Tensor:
        """The base's weight without the adapter, shape (out, in), also after a merge."""
        return turned(self.base, self.original.get("weight", self.base.weight))

    @torch.no_grad()
    def merge(self) -> None:
        """Merge the adapter into the weights, rounded to their type, so that the layer costs no more than before."""
        if not self.original:
            require_floats(self.base)
            # Not in place: other models may share the old weights, and ``unmerge`` needs every bit of them.
            combined = self.combined()
            self.original = {name: getattr(self.base, name) for name in combined}
            for name, value in combined.items():
                stored = turned(self.base, value) if name == "weight" else value
                rounded = stored.contiguous().to(self.original[name].dtype)
                setattr(self.base, name, nn.Parameter(rounded, requires_grad=False))

    def unmerge(self) -> None:
        """Put the weights from before ``merge`` back."""
        for name, value in self.original.items():
            setattr(self.base, name, value)
        self.original = {}


def require_floats(layer: nn.Module) -> None:
    """Raise a ``LabkitError`` where the weight of ``layer`` is stored in 4 bits."""
    if not layer.weight.is_floating_point():
        raise LabkitError(
            "An update cannot be merged into a weight in 4 bits: the sum would have to be rounded to the 16 levels "
            "again, and most of a fine update is smaller than half a step between them.",
            "Use lk.merge(model, dequantize=True), which turns the weights into floats first; they become four to "
            "eight times as large.",
        )


def keep_head(model: Model) -> None:
    """Remember the head of ``model`` as it is now, before it is trained beside an adapter or alone."""
    head = copy.deepcopy(model.head)
    model.untrained_head = (head.requires_grad_(False) if head is not None else None), model.labels


def adapters_of(model: Model) -> dict[str, Adapter]:
    """Return the adapters in a model by their path."""
    return {path: layer for path, layer in model.module.named_modules() if isinstance(layer, Adapter)}


def require_no_adapter(model: Model) -> None:
    """Raise a ``LabkitError`` where ``model`` has an adapter."""
    if found := adapters_of(model).values():
        merge = "Make it part of the weights first, with lk.merge(model), or start from the base model."
        mergeable = all(isinstance(adapter, MergeableLinear) for adapter in found)
        raise LabkitError(f"{model.name} has an adapter already.", merge if mergeable else "Start from the base model.")
