"""Merge a trained update into the weights."""

from __future__ import annotations

from dataclasses import replace

from labkit.errors import LabkitError
from labkit.methods.adapter import MergeableLinear, adapters_of
from labkit.methods.targets import replace_layer
from labkit.models.model import Model
from labkit.quant.layers import dequantized, is_4bit


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
