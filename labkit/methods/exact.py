"""A model's network in float32, where only its weights decide what it computes."""

from __future__ import annotations

import torch
from torch import nn
from transformers import PreTrainedModel

from labkit.methods.targets import replace_layer
from labkit.models.model import Model
from labkit.quant.layers import dequantized, is_4bit

SAME = ("eager", "sdpa")  # attention that every process can compute


def in_float32(model: Model) -> PreTrainedModel:
    """Return a model's network with weights of its own, in float32 on the CPU, for inference; 4-bit ones dequantized.

    Adapters stay beside the weights.
    """
    network = model.copy(share_weights=True).module
    for path, layer in list(network.named_modules()):
        if is_4bit(layer):
            replace_layer(network, path, dequantized(layer, torch.float32))
    network = nn.Module.to(network, "cpu", torch.float32)
    for parameter in network.parameters():
        parameter.data = parameter.data.clone()
    if network.config._attn_implementation not in SAME:
        network.set_attn_implementation("eager")
    return network.eval().requires_grad_(False)
