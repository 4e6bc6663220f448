"""Ways to bring a trained adapter into weights, each with the rounding that it does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TypeAlias

import torch
from torch import nn

from labkit.errors import LabkitError
from labkit.methods.adapter import adapters_of, require_no_adapter
from labkit.methods.merging import merge
from labkit.methods.qlora import quantize_model
from labkit.methods.targets import find_targets, replace_layer
from labkit.models.model import Model
from labkit.models.precision import store_linear_weights
from labkit.quant.absmax import quantize_absmax
from labkit.quant.matrix import is_linear, sides

# (the model with its adapter, the model as loaded) → one that computes the same, but for rounding
Way: TypeAlias = Callable[[Model, Model], Model]
BLOCK = 64  # numbers that share a scale


def merged(tuned: Model) -> Model:
    """Return ``tuned`` with its adapter in the weights, W + s·BA in float32; weights in 4 bits are dequantized first.

    Its precision stays that of ``tuned``: with 16-bit products, the sum is rounded at every product.
    """
    if tuned.quantization is None:
        return merge(tuned.copy(share_weights=False))
    return replace(merge(replace(tuned, precision=torch.float32), dequantize=True), precision=tuned.precision)


def beside(tuned: Model, base: Model) -> Model:
    """Return a model with the adapter of ``tuned`` beside the weights of ``base``, which it wasn't trained on.

    Args:
        tuned: a causal model with an adapter.
        base: a model of the same architecture without one, in floats or in 4 bits; the weights are not copied.

    Raises:
        LabkitError: ``tuned`` has no adapter, ``base`` has one, or its layers are others.
    """
    require_no_adapter(base)
    adapters = adapters_of(tuned.copy(share_weights=True))
    if not adapters:
        raise LabkitError(f"{tuned.name} has no adapter.", "Pass the model of a LoRA or QLoRA run: run.model.")
    made = base.copy(share_weights=True)
    made.module.requires_grad_(False)
    layers = {path: layer for path, layer in made.module.named_modules() if is_linear(layer)}
    for path, adapter in adapters.items():
        if path not in layers or sides(layers[path]) != sides(adapter.base):
            raise LabkitError(
                f"{base.name} has no layer {path} of the size that the adapter was made for.",
                "Pass the model that the run started from.",
            )
        adapter.base = layers[path]
        replace_layer(made.module, path, adapter)
    return made


def as_float32(model: Model) -> Model:
    """Return ``model``, whose weights are in float32, with products in float32 too."""
    return replace(model, precision=torch.float32)


def as_bfloat16(model: Model) -> Model:
    """Return a copy with the matrices of linear layers rounded to bfloat16, and products in bfloat16."""
    half = model.copy(share_weights=False)
    store_linear_weights(half.module, torch.bfloat16)
    return replace(half, precision=torch.bfloat16)


def as_int8(model: Model, block_size: int | None = None) -> Model:
    """Return a copy with what 8 bits leave of the matrices of linear layers but the head (``quantize_absmax``).

    Args:
        model: one whose weights are in floats.
        block_size: numbers that share a scale; None is one scale for each matrix.
    """
    rounded = model.copy(share_weights=False)
    for layer in find_targets(rounded.module, "all-linear").values():
        values = quantize_absmax(layer.weight.detach(), 8, block_size).dequantize()
        layer.weight = nn.Parameter(values, requires_grad=False)
    return rounded


# For a run of LoRA, and for one of QLoRA. "original" is the model as loaded, in 16 bits, before QLoRA quantized it.
WAYS: Mapping[str, Mapping[str, Way]] = {
    "lora": {
        "live": lambda tuned, base: tuned,
        "float32": lambda tuned, base: as_float32(merged(tuned)),
        "bfloat16": lambda tuned, base: as_bfloat16(merged(tuned)),
        "int8-blocks": lambda tuned, base: as_int8(merged(tuned), BLOCK),
        "int8-matrix": lambda tuned, base: as_int8(merged(tuned)),
        "nf4": lambda tuned, base: quantize_model(merged(tuned)),
        "live-on-nf4": lambda tuned, base: beside(tuned, quantize_model(base)),
    },
    "qlora": {
        "live": lambda tuned, base: tuned,
        "float32": lambda tuned, base: as_float32(merged(tuned)),
        "bfloat16": lambda tuned, base: as_bfloat16(merged(tuned)),
        "original-float32": lambda tuned, base: as_float32(merged(beside(tuned, base))),
        "original-bfloat16": lambda tuned, base: as_bfloat16(merged(beside(tuned, base))),
        "live-on-original": beside,
        "nf4-again": lambda tuned, base: quantize_model(merged(tuned), tuned.quantization),
    },
}
