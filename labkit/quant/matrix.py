"""The matrix of a linear layer, whichever way round it is stored."""

from __future__ import annotations

from typing import cast

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

# GPT-2's layers are linear too, with the weight stored as (in, out): fan_in_fan_out, as PEFT calls it.
LINEAR = (nn.Linear, Conv1D)


def is_linear(layer: nn.Module) -> bool:
    """Return whether a layer computes a product with one matrix, in floats or in 4 bits."""
    return isinstance(layer, LINEAR) or hasattr(layer, "in_features")


def is_transposed(layer: nn.Module) -> bool:
    """Return whether a layer, or the one that it was quantized from, stores its weight as (in, out)."""
    return isinstance(layer, Conv1D) or getattr(layer, "transposed", False)


def sides(layer: nn.Module) -> tuple[int, int]:
    """Return how many numbers go into a linear layer, and how many come out."""
    if isinstance(layer, Conv1D):
        return layer.nx, layer.nf
    plain = cast(nn.Linear, layer)  # or a 4-bit layer: they name their sides alike
    return plain.in_features, plain.out_features


def turned(layer: nn.Module, weight: torch.Tensor) -> torch.Tensor:
    """Return a weight as ``layer`` stores it in the shape (out, in), or one of that shape as ``layer`` stores it."""
    return weight.T if isinstance(layer, Conv1D) else weight


def as_linear(layer: nn.Linear | Conv1D) -> nn.Linear:
    """Return a linear layer as torch has it; only a weight stored the other way round is copied."""
    if isinstance(layer, nn.Linear):
        return layer
    plain = nn.Linear(*sides(layer), device="meta")
    plain.weight, plain.bias = nn.Parameter(layer.weight.detach().T.contiguous()), layer.bias
    return plain


def as_conv1d(plain: nn.Linear) -> Conv1D:
    """Return a linear layer as GPT-2 has it."""
    with torch.device("meta"):
        layer = Conv1D(plain.out_features, plain.in_features)
    layer.weight = nn.Parameter(plain.weight.detach().T.contiguous(), requires_grad=plain.weight.requires_grad)
    layer.bias = plain.bias
    return layer
