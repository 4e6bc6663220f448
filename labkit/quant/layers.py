"""4-bit layers of either backend: the settings, and how to make and undo one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias, TypeGuard

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from labkit.errors import LabkitError, set_checked, unknown
from labkit.quant.blocks import check_block_size
from labkit.quant.bnb import bnb_linear, guard, is_bnb, load_bitsandbytes
from labkit.quant.codebooks import LEVELS
from labkit.quant.linear import Linear4bit
from labkit.quant.matrix import as_conv1d, as_linear, is_transposed, sides

if TYPE_CHECKING:
    from labkit.quant.bnb import BnbLinear

BACKENDS = ("bitsandbytes", "labkit")
# What counts as a linear layer: torch's (bitsandbytes' is one of these), GPT-2's, and labkit's in 4 bits.
LinearLayer: TypeAlias = nn.Linear | Conv1D | Linear4bit


@dataclass(frozen=True)
class Quantization:
    """How weights are stored in 4 bits.

    Attributes:
        format: ``"nf4"``, ``"fp4"`` or ``"int4"`` (the last with backend ``"labkit"`` only).
        block_size: numbers that share a scale; a power of two from 32 to 4096.
        double: store the scales in 8 bits as well.
        backend: ``"bitsandbytes"``, which is fast, or ``"labkit"``, which is readable.
    """

    format: str = "nf4"
    block_size: int = 64
    double: bool = True
    backend: str = "bitsandbytes"

    def __post_init__(self) -> None:
        if not isinstance(self.format, str) or self.format not in LEVELS:
            raise unknown("4-bit format", str(self.format), LEVELS)
        if self.backend not in BACKENDS:
            raise unknown("backend", str(self.backend), BACKENDS)
        if self.backend == "bitsandbytes" and self.format == "int4":
            raise LabkitError("bitsandbytes has no format 'int4'.", 'Use "nf4" or "fp4", or backend="labkit".')
        set_checked(self, block_size=check_block_size(self.block_size))

    def layer(self, linear: LinearLayer, dtype: torch.dtype) -> Linear4bit | BnbLinear:
        """Return a 4-bit layer with the weight of ``linear``, whose products are computed in ``dtype``."""
        if isinstance(linear, Linear4bit):
            raise LabkitError("This layer is stored in 4 bits already.", "Pass a layer whose weight is in floats.")
        plain = as_linear(linear)
        made: Linear4bit | BnbLinear
        if self.backend == "labkit":
            made = Linear4bit(plain, self.format, self.block_size, self.double)
        else:
            made = bnb_linear(plain, self.format, self.block_size, self.double, dtype)
        if is_transposed(linear):
            made.transposed = True
        return made


def is_4bit(layer: nn.Module) -> TypeGuard[Linear4bit | BnbLinear]:
    """Return whether a layer's weight is stored in 4 bits, by either backend."""
    return isinstance(layer, Linear4bit) or is_bnb(layer)


def dequantized(layer: Linear4bit | BnbLinear, dtype: torch.dtype) -> nn.Linear | Conv1D:
    """Return the kind of linear layer that a 4-bit layer was made from, with the dequantized weight."""
    plain = nn.Linear(*sides(layer), layer.bias is not None, device="meta")
    if isinstance(layer, Linear4bit):
        weight = layer.quantized.dequantize(dtype)
    else:
        guard(layer)  # a repacked weight would come back wrong
        weight = load_bitsandbytes().functional.dequantize_4bit(layer.weight.data, layer.weight.quant_state).to(dtype)
    plain.weight = nn.Parameter(weight, requires_grad=False)
    if layer.bias is not None:
        plain.bias = nn.Parameter(layer.bias.detach().clone(), requires_grad=False)
    return as_conv1d(plain) if is_transposed(layer) else plain
