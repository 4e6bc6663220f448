"""The textbook's formula for a step's memory: for comparison, and for where a simulation cannot be had."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from transformers import PretrainedConfig

from labkit.memory.report import KINDS, MemoryReport
from labkit.memory.watch import Watched
from labkit.methods import Method
from labkit.planning.skeleton import adapt, kind_of, skeleton
from labkit.training.config import TrainingConfig


@dataclass(frozen=True)
class Prediction:
    """The memory that a training step will take at its peak.

    Attributes:
        tensors: bytes of the tensors, and of scratch memory on a CPU.
        allocated: the same as torch's allocator on CUDA counts it.
        reserved: the same as it takes it from the card, about.
    """

    tensors: MemoryReport
    allocated: MemoryReport
    reserved: MemoryReport


def estimate(
    config: PretrainedConfig,
    method: Method,
    training: TrainingConfig,
    batch: int,
    length: int,
    learned: int,
    precision: torch.dtype = torch.float32,
    classes: int = 2,
) -> MemoryReport:
    """Return an estimate of a step's memory at its peak, within some tens of percent for full fine-tuning.

    Weights, gradients and optimizer states are counted. For a block's activations stands the formula of
    Korthikanti et al. (2022, arXiv:2205.05198, section 4.1): 34 bytes for each token and hidden number in 16
    bits, attention matrices left out. It knows nothing of adapters, and adds up what is never there at once: all
    activations and all gradients.

    Args:
        config, method, training, precision, classes: as for ``predict``.
        batch: examples.
        length: tokens of each.
        learned: tokens of each that are learned.
    """
    two, three = (_weights(config, method, precision, classes, layers) for layers in (2, 3))
    layers = config.num_hidden_layers
    held = {kind: two[kind] + (layers - 2) * (three[kind] - two[kind]) for kind in KINDS}
    activations, logits = from_data(config, training, batch, length, learned, precision, classes)
    return MemoryReport(**held | {"activations": activations, "logits": logits})


def from_data(
    config: PretrainedConfig,
    training: TrainingConfig,
    batch: int,
    length: int,
    learned: int,
    precision: torch.dtype,
    classes: int,
) -> tuple[int, int]:
    """Return the formula's bytes of activations and of logits, which depend on the data."""
    layers = config.num_hidden_layers
    block = 17 * precision.itemsize * batch * length * config.hidden_size
    if training.gradient_checkpointing:
        block = block + layers * batch * length * config.hidden_size * 4
    else:
        block = block * layers
    outputs = classes if kind_of(config) == "encoder" else learned * config.vocab_size
    # Logits in the type of the computation, in 32 bits for the loss, and the gradients of both.
    return block, 2 * batch * outputs * (precision.itemsize + 4)


def _weights(config: PretrainedConfig, method: Method, precision: torch.dtype, classes: int, layers: int) -> dict:
    model = adapt(skeleton(config, precision, classes, layers), method)
    watched = Watched(model.module, torch.optim.AdamW(model.trainable().values()), model.head, id)
    sizes = dict.fromkeys(KINDS, 0)
    for item in watched.held().values():
        sizes[item.kind] += item.size
    count = sum(p.numel() for p in model.trainable().values())
    return sizes | {"optimizer": 8 * count, "gradients": 4 * count}
