"""Weights in the type that products are computed in, cast once instead of at every token.

Autocast casts a float32 weight each time a layer is called. In training that is little beside the product. A token's
product reads each weight once, and so does the cast: generation would take several times as long. The numbers
are the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import torch
from torch import nn

from labkit.methods.lora import LoRALinear
from labkit.models.model import Model
from labkit.quant.layers import is_4bit

SPARE = 4  # the copies may take up to one part in so many of the memory that is free


class Casts:
    """Copies of a model's matrices, which take the weights' places inside ``with casts.swapped()``.

    Attributes:
        nbytes: memory that the copies take: two bytes a number; 0 where there is nothing to cast or no memory.
    """

    def __init__(self, model: Model):
        places = list(_castable(model)) if model.precision != torch.float32 else []
        self.nbytes = sum(2 * weight.numel() for _, _, weight in places)
        if self.nbytes > _free(model.device) / SPARE:
            places, self.nbytes = [], 0
        self._places = [
            (module, name, weight, nn.Parameter(weight.detach().to(model.precision), requires_grad=False))
            for module, name, weight in places
        ]

    @contextmanager
    def swapped(self) -> Iterator[None]:
        """Put the copies into the layers inside the block. An embedding tied to the last layer keeps its weight."""
        try:
            for module, name, _, copy in self._places:
                module._parameters[name] = copy
            yield
        finally:
            for module, name, weight, _ in self._places:
                module._parameters[name] = weight


def _castable(model: Model) -> Iterator[tuple[nn.Module, str, nn.Parameter]]:
    """Yield layers, with the names and values of those weights that autocast would cast and nothing else reads."""
    read = set()
    for module in model.module.modules():
        if isinstance(module, LoRALinear):
            if type(module) is LoRALinear:
                yield from ((module, name, getattr(module, name)) for name in ("lora_A", "lora_B"))
            else:  # variants such as DoRA also compute with the weight itself
                read |= set(module.modules())
    for module in model.module.modules():
        if isinstance(module, nn.Linear) and not is_4bit(module) and module not in read:
            for name in ("weight", "bias"):
                value = module._parameters.get(name)
                if value is not None and value.dtype == torch.float32:
                    yield module, name, value


def _free(device: torch.device) -> int:
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else psutil.virtual_memory().available
