"""A training step of which the memory is asked for, and the answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers import PretrainedConfig

from labkit.memory.report import MemoryReport
from labkit.methods import Method
from labkit.models.model import Model
from labkit.quant.layers import Quantization
from labkit.training.batching import Example
from labkit.training.config import TrainingConfig


@dataclass(frozen=True)
class Step:
    """All that the memory of a training step depends on.

    Attributes:
        config: the model's architecture and sizes.
        method: what is trained.
        training: how; ``steps``, ``batch_size`` and the learning rate make no difference.
        examples: one batch, or with accumulation the largest.
        precision: the type of matrix products.
        classes: of an encoder's head.
        quantization: how the weights are stored in 4 bits before the method comes; None where they are not.
    """

    config: PretrainedConfig
    method: Method
    training: TrainingConfig
    examples: Sequence[Example]
    precision: torch.dtype = torch.float32
    classes: int = 2
    quantization: Quantization | None = None

    @property
    def length(self) -> int:
        """Tokens of the longest example."""
        return max(len(example.tokens) for example in self.examples)

    @property
    def learned(self) -> int:
        """The most tokens that are learned of an example."""
        return max(example.learned for example in self.examples)


def step_of(model: Model, method: Method, training: TrainingConfig, examples: Sequence[Example], classes: int) -> Step:
    """Return the step of a loaded model."""
    return Step(model.module.config, method, training, examples, model.precision, classes, model.quantization)


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

    def on(self, device: torch.device) -> MemoryReport:
        """Return what is measured on such a device."""
        return self.allocated if device.type == "cuda" else self.tensors
