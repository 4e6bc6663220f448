"""Prepare a meta model as a method trains it, with layers that imitate those of bitsandbytes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import nn

from labkit.methods import Method, QLoRA, quantize_model
from labkit.models.model import Model
from labkit.quant.blockwise import quantize
from labkit.quant.layers import Quantization
from labkit.quant.linear import Linear4bit, in_compute_type
from labkit.quant.quantized import Quantized


def adapt_model(model: Model, method: Method | None, quantization: Quantization | None = None) -> Model:
    """Return a meta model with the method's parameters, if there is one.

    ``quantization`` says how its weights are stored before.
    """
    stored = quantization
    if isinstance(method, QLoRA):
        stored, method = method.quantization, replace(method, backend="labkit")
    if stored:
        # Dequantizing makes a table once and keeps it. Make it now: in all steps but the first it exists already.
        quantize(torch.ones(1), stored.format, stored.block_size, stored.double).dequantize()
        model = quantize_model(model, replace(stored, backend="labkit"), inplace=True)
    tuned = method.apply(model, inplace=True) if method else model
    if stored and stored.backend == "bitsandbytes":
        for layer in tuned.module.modules():
            if isinstance(layer, Linear4bit):
                _as_bitsandbytes(layer, model.precision)
    return tuned


def reference_model(model: Model, method: Method, quantization: Quantization | None = None) -> Model:
    """Return a meta model as it is before training: QLoRA's is the one in 4 bits."""
    return adapt_model(model, None, method.quantization if isinstance(method, QLoRA) else quantization)


def _as_bitsandbytes(layer: Linear4bit, precision: torch.dtype) -> None:
    """Turn a 4-bit layer of labkit into one that makes the same allocations as a layer of bitsandbytes."""
    if layer.bias is not None:
        layer.bias.data = layer.bias.data.to(precision)  # as bitsandbytes does in the first forward pass
    layer.register_buffer("code", torch.empty(16, device="meta"))
    if layer.quantized.scales is not None:
        layer.register_buffer("scales_code", torch.empty(256, device="meta"))
    layer.__class__ = _BitsandbytesLinear


class _BitsandbytesLinear(Linear4bit):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = in_compute_type(x)
        bias = None if self.bias is None else self.bias.to(x.dtype)
        return _BitsandbytesProduct.apply(x, self.quantized, bias)


class _BitsandbytesProduct(torch.autograd.Function):
    """``MatMul4Bit`` of bitsandbytes 0.50: it dequantizes the weight in both passes."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: Quantized, bias: torch.Tensor | None) -> torch.Tensor:
        ctx.weight = weight
        return nn.functional.linear(x, _dequantized(weight, x.dtype), bias)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        return grad @ _dequantized(ctx.weight, ctx.weight.dtype).to(grad.dtype), None, None


def _dequantized(weight: Quantized, dtype: torch.dtype) -> torch.Tensor:
    scales = weight.absmax if weight.offset is None else weight.absmax.float() + weight.offset
    return scales.new_empty(weight.shape, dtype=dtype)
