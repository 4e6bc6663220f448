"""Make a trained update part of the weights."""

from __future__ import annotations

from dataclasses import replace

from labkit.assets.models import Model
from labkit.errors import LabkitError
from labkit.methods.adapter_files import adapted_layers
from labkit.methods.targets import replace_layer
from labkit.quant.layers import dequantized, is_4bit


def merge(model: Model, *, dequantize: bool = False) -> Model:
    """Return a model of plain linear layers in which every LoRA update is part of the weight.

    It needs no adapter any more and costs at inference what the base model does. ``model`` stays as it was.

    Args:
        model: a model that LoRA or QLoRA was trained on.
        dequantize: turn 4-bit weights into floats first. Without it, merging into 4 bits is refused.

    Raises:
        LabkitError: there is no adapter, or the weights are in 4 bits.
    """
    merged = model.copy(share_weights=True)
    layers = adapted_layers(merged)
    if not layers:
        raise LabkitError(f"{model.name} has no LoRA layers to merge.", "Pass the model of a LoRA run: run.model.")
    for path, layer in layers.items():
        if dequantize and is_4bit(layer.base):
            layer.base = dequantized(layer.base, model.precision)
        layer.merge()
        replace_layer(merged.module, path, layer.base)
    if dequantize:
        for path, layer in list(merged.module.named_modules()):
            if is_4bit(layer):
                replace_layer(merged.module, path, dequantized(layer, model.precision))
        merged = replace(merged, quantization=None, origin="")
    return merged
