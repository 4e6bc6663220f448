"""Merge a trained update into the weights."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace

import torch
from torch import nn

from labkit.errors import LabkitError
from labkit.methods.adapter import Adapter, adapters_of
from labkit.methods.targets import replace_layer
from labkit.models.model import Model
from labkit.quant.layers import LinearLayer, dequantized, is_4bit
from labkit.quant.matrix import turned


class MergeableLinear(Adapter):
    """An adapter around a linear layer that can become part of its weight."""

    mergeable = True
    base: LinearLayer

    def __init__(self, base: LinearLayer):
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
            _require_floats(self.base)
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


def merge(model: Model, *, dequantize: bool = False) -> Model:
    """Return a model of plain linear layers in which every update of LoRA or IA3 is part of the weight.

    It needs no adapter any more, and inference costs what it does with the base model. ``model`` stays as it was.

    Args:
        model: a model that LoRA, QLoRA or IA3 was trained on.
        dequantize: turn 4-bit weights into floats first. Without it, merging into 4 bits is refused.

    Raises:
        LabkitError: there is no adapter, or one that no weight can hold, or the weights are in 4 bits.
    """
    merged = model.copy(share_weights=True)
    layers = adapters_of(merged)
    if not layers:
        raise LabkitError(f"{model.name} has no adapter to merge.", "Pass the model of a LoRA run: run.model.")
    for path, layer in layers.items():
        if not isinstance(layer, MergeableLinear):
            raise LabkitError(
                f"A {type(layer).__name__} cannot be merged: no weight of a linear layer does what it does.",
                "Keep the adapter beside the model. LoRA and IA3 can be merged.",
            )
        if dequantize and is_4bit(layer.base):
            layer.base = dequantized(layer.base, model.precision)
        layer.merge()
        replace_layer(merged.module, path, layer.base)
    merged.untrained_head = None
    if dequantize:
        for path, layer in list(merged.module.named_modules()):
            if is_4bit(layer):
                replace_layer(merged.module, path, dequantized(layer, model.precision))
        merged = replace(merged, quantization=None, origin="")
    return merged


def _require_floats(layer: LinearLayer) -> None:
    """Raise a ``LabkitError`` where the weight of ``layer`` is stored in 4 bits."""
    if not layer.weight.is_floating_point():
        raise LabkitError(
            "An update cannot be merged into a weight in 4 bits: the sum would have to be rounded to the 16 levels "
            "again, and most of a fine update is smaller than half a step between them.",
            "Use lk.merge(model, dequantize=True), which turns the weights into floats first; they become four to "
            "eight times as large.",
        )
