"""Models of all shapes and no numbers, made ready to be trained on paper."""

from __future__ import annotations

import copy
from dataclasses import replace
from types import SimpleNamespace

import torch
from torch import nn
from transformers import AutoModel, AutoModelForCausalLM, PretrainedConfig

from labkit.errors import LabkitError, unknown
from labkit.methods import Method, QLoRA, quantize_model
from labkit.models.model import Model, store_linear_weights
from labkit.quant.blockwise import Quantized, quantize
from labkit.quant.layers import Quantization
from labkit.quant.linear import Linear4bit, in_compute_type

# Architectures whose blocks are all alike, for which a test compares the prediction with a full simulation.
CAUSAL = ("gpt_neox", "llama", "mistral", "opt", "phi3", "qwen2", "qwen3")
ENCODERS = ("bert", "distilbert", "roberta")


def kind_of(config: PretrainedConfig) -> str:
    """Return "causal" or "encoder".

    Raises:
        LabkitError: labkit cannot plan for such a model.
    """
    if config.model_type in ENCODERS:
        return "encoder"
    if config.model_type in CAUSAL:
        return "causal"
    raise unknown("model type", config.model_type, [*CAUSAL, *ENCODERS], " Plans are made for these alone.")


def skeleton(config: PretrainedConfig, precision: torch.dtype, classes: int = 2, layers: int | None = None) -> Model:
    """Return a model as ``load_model`` would store it, on torch's device ``meta``.

    Args:
        config: its architecture and sizes.
        precision: the type of matrix products.
        classes: of an encoder's head.
        layers: how many blocks, instead of the configuration's number.
    """
    kind = kind_of(config)
    config = copy.deepcopy(config)
    if layers is not None:
        config.num_hidden_layers = layers
        if getattr(config, "layer_types", None):
            config.layer_types = config.layer_types[:layers]
    loader = AutoModelForCausalLM if kind == "causal" else AutoModel
    with torch.device("meta"):
        module = loader.from_config(config, dtype=torch.float32, trust_remote_code=False)
        head = nn.Linear(config.hidden_size, classes) if kind == "encoder" else None
    store_linear_weights(module, precision)
    return Model(config.model_type, module.eval(), SimpleNamespace(pad_token_id=0), kind, precision, head)


def adapt(model: Model, method: Method, quantization: Quantization | None = None) -> Model:
    """Return a skeleton with the method's parameters, its weights first stored as ``quantization`` says."""
    stored = quantization
    if isinstance(method, QLoRA):
        stored, method = method.quantization, replace(method, backend="labkit")
    if stored:
        # The table that dequantizing makes once and keeps is to be there before, as in all steps but the first.
        quantize(torch.ones(1), stored.format, stored.block_size, stored.double).dequantize()
        model = quantize_model(model, replace(stored, backend="labkit"), inplace=True)
    tuned = method.apply(model, inplace=True)
    if stored and stored.backend == "bitsandbytes":
        for layer in tuned.module.modules():
            if isinstance(layer, Linear4bit):
                _as_bitsandbytes(layer, model.precision)
    return tuned


def blocks_of(module: nn.Module, count: int) -> tuple[str, ...]:
    """Return the paths of a model's blocks.

    Raises:
        LabkitError: it has no list of that many.
    """
    for path, inner in module.named_modules():
        if isinstance(inner, nn.ModuleList) and len(inner) == count:
            return tuple(f"{path}.{index}" for index in range(count))
    raise LabkitError("This model has no list of blocks.", "Plan for one of a known architecture.")


def _as_bitsandbytes(layer: Linear4bit, precision: torch.dtype) -> None:
    """Turn a layer of labkit's into one that allocates what bitsandbytes' would, step by step."""
    if layer.bias is not None:
        layer.bias.data = layer.bias.data.to(precision)  # bitsandbytes does so in the first forward pass
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
    """``MatMul4Bit`` of bitsandbytes 0.50: the weight is made anew in both passes."""

    @staticmethod
    def forward(ctx, x: torch.Tensor, weight: Quantized, bias: torch.Tensor | None) -> torch.Tensor:
        ctx.weight = weight
        return nn.functional.linear(x, _dequantized(weight, x.dtype), bias)

    @staticmethod
    def backward(ctx, grad: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        return grad @ _dequantized(ctx.weight, ctx.weight.dtype).to(grad.dtype), None, None


def _dequantized(weight: Quantized, dtype: torch.dtype) -> torch.Tensor:
    scales = weight.absmax if weight.scales is None else weight.absmax.float() + weight.offset
    return scales.new_empty(weight.shape, dtype=dtype)
