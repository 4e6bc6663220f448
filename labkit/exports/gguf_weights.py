"""A Llama's weights under the names and in the order of rows that llama.cpp reads."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gguf
import numpy as np
import torch
from torch import nn

from labkit.exports.errors import ExportError
from labkit.methods.adapter import adapters_of
from labkit.methods.merging import MergeableLinear
from labkit.methods.targets import replace_layer
from labkit.models.model import Model
from labkit.quant.layers import dequantized, is_4bit

KNOWN = ("llama",)  # SmolLM2 is one


def require_llama(model: Model) -> Any:
    """Return the configuration of a Llama; raise an ``ExportError`` where labkit can't write such a model as GGUF."""
    config = model.module.config
    fault = ""
    if config.model_type not in KNOWN:
        fault = f"it is of the architecture {config.model_type}"
    elif getattr(config, "attention_bias", False) or getattr(config, "mlp_bias", False):
        fault = "its linear layers have biases"
    elif config.hidden_act != "silu":
        fault = f"its MLP computes {config.hidden_act}"
    elif (rope := config.rope_parameters["rope_type"]) != "default":
        fault = f"its positions are scaled ({rope})"
    elif len(model.tokenizer) > config.vocab_size:
        fault = f"its tokenizer has {len(model.tokenizer)} tokens, and its table of word vectors {config.vocab_size}"
    if fault:
        raise ExportError(
            f"{model.name} cannot be written as GGUF: {fault}.",
            f"Known: {', '.join(KNOWN)} with silu, no biases and unscaled positions, such as smollm2-135m. Export it "
            "as safetensors, and convert that with llama.cpp's convert_hf_to_gguf.py.",
        )
    return config


def named_weights(model: Model) -> Iterator[tuple[str, np.ndarray]]:
    """Yield each weight as llama.cpp names it, in float32; an adapter's updates are part of the weights.

    The sum of weight and update is not rounded to the model's 16 bits first: one rounding, to the file's type, is all.
    A head that is tied to the table of word vectors is left out, and llama.cpp uses the table.

    Raises:
        ExportError: labkit can't write such a model, or no weight can hold its adapter.
    """
    config = require_llama(model)
    module = _merged(model)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    weights = module.state_dict()
    if torch.equal(weights["lm_head.weight"], weights["model.embed_tokens.weight"]):
        del weights["lm_head.weight"]
    for name, weight in weights.items():
        value = to_llama_cpp(name, weight.detach().float().cpu(), config)
        found = names.get_name(name, try_suffixes=(".weight",))
        if found is None:
            raise ExportError(f"{model.name} cannot be written as GGUF: llama.cpp knows no {name}.", "Report this.")
        yield found, value.contiguous().numpy()


def to_llama_cpp(name: str, weight: torch.Tensor, config: Any) -> torch.Tensor:
    """Return a weight, or the B of its update, with the rows of queries and keys in llama.cpp's order.

    Rotary positions turn pairs of numbers: in transformers, row i of a head and row i + size/2; in llama.cpp, which
    reads Meta's own files, rows 2i and 2i + 1.
    """
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}.get(name.split(".")[-2])
    if heads is None:
        return weight
    halves = weight.reshape(heads, 2, weight.shape[0] // heads // 2, -1)
    return halves.transpose(1, 2).reshape(weight.shape)


@torch.no_grad()
def _merged(model: Model) -> nn.Module:
    """Return a network of plain linear layers; those with an adapter or 4-bit weights have new ones in float32."""
    merged = model.copy(share_weights=True)
    for path, adapter in adapters_of(merged).items():
        if not isinstance(adapter, MergeableLinear):
            raise ExportError(
                f"{model.name} cannot be written as GGUF: no weight can hold what its {type(adapter).__name__} does.",
                "Export the adapter in PEFT's format. LoRA and IA3 become part of the weights.",
            )
        if is_4bit(adapter.base):
            adapter.base = dequantized(adapter.base, torch.float32)
        for name, value in adapter.combined().items():
            setattr(adapter.base, name, nn.Parameter(value, requires_grad=False))
        replace_layer(merged.module, path, adapter.base)
    for path, layer in list(merged.module.named_modules()):
        if is_4bit(layer):
            replace_layer(merged.module, path, dequantized(layer, torch.float32))
    return merged.module
