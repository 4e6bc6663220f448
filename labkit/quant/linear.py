"""A linear layer whose weight is stored in 4 bits."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from labkit.quant.blockwise import quantize
from labkit.quant.quantized import Quantized


class Linear4bit(nn.Module):
    """y = Wx + b with W in 4-bit codes (Dettmers et al., 2023, arXiv:2305.14314, equation 5).

    The weight is dequantized in the type of the computation when it is needed, in the forward pass and
    again in the backward pass, and discarded at once. It gets no gradient; the input does. Input
    (…, in), output (…, out).

    Attributes:
        weight: the codes; the other buffers are those of ``Quantized``.
        bias: b in floats, frozen; None if the layer has none.
        transposed: whether the layer that it was made from stores its weight as (in, out).
    """

    weight: torch.Tensor
    absmax: torch.Tensor
    offset: torch.Tensor | None
    scales: torch.Tensor | None
    bias: nn.Parameter | None
    transposed: bool = False

    def __init__(self, layer: nn.Linear, format: str = "nf4", block_size: int = 64, double: bool = True):
        super().__init__()
        self.out_features, self.in_features = layer.weight.shape
        quantized = quantize(layer.weight, format, block_size, double)
        self.format, self.block_size = quantized.format, quantized.block_size
        self._shape, self._dtype = quantized.shape, quantized.dtype
        self.register_buffer("weight", quantized.codes)
        for name in ("absmax", "offset", "scales"):
            self.register_buffer(name, getattr(quantized, name))
        self.bias = None if layer.bias is None else nn.Parameter(layer.bias.detach(), requires_grad=False)

    @property
    def quantized(self) -> Quantized:
        """The weight in 4 bits, over this layer's own buffers."""
        layout = self.format, self.block_size, self._shape, self._dtype
        return Quantized(self.weight, self.absmax, *layout, self.offset, self.scales)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return Wx + b, in the type of x or of autocast."""
        x = in_compute_type(x)
        result = _Product.apply(x, self.quantized)
        return result if self.bias is None else result + self.bias.to(x.dtype)

    def extra_repr(self) -> str:
        """Describe the layer when its model is printed."""
        return f"{self.in_features}, {self.out_features}, {self.format}, block {self.block_size}"


def in_compute_type(x: torch.Tensor) -> torch.Tensor:
    """Return ``x`` in the type that matrix products are computed in: autocast's, if it is on."""
    kind = x.device.type
    return x.to(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else x


class _Product(torch.autograd.Function):
    """Wx that keeps the codes for the backward pass, not the dequantized matrix, which is eight times as large."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: Quantized) -> torch.Tensor:
        ctx.weight = weight
        return F.linear(x, weight.dequantize(x.dtype))

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None]:
        return grad @ ctx.weight.dequantize(grad.dtype), None
