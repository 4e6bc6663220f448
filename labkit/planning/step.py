"""The input and the output of a memory prediction: a training step, and the memory that it takes."""

from __future__ import annotations

import re
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
from labkit.training.rl import RL
from labkit.training.schedule import padded_learned


@dataclass(frozen=True)
class Step:
    """Everything that the memory of a training step depends on.

    Attributes:
        config: the model's architecture and sizes.
        method: what is trained.
        training: how it is trained; ``steps``, ``batch_size`` and the learning rate make no difference.
        examples: one batch; with accumulation, the largest one.
        precision: the type of matrix products.
        classes: the number of classes of an encoder's head.
        quantization: how the weights are stored in 4 bits before the method is applied; None if they are not.
        rl: how the step learns from rewards; its examples are then all replies behind their prompts.
        reference_copy: whether a second copy of the model before training is in memory, as the reference.
    """

    config: PretrainedConfig
    method: Method
    training: TrainingConfig
    examples: Sequence[Example]
    precision: torch.dtype = torch.float32
    classes: int = 2
    quantization: Quantization | None = None
    rl: RL | None = None
    reference_copy: bool = False

    @property
    def alike(self) -> bool:
        """Whether the method treats all blocks alike, and doesn't name layers of single ones (``layers.3.q_proj``)."""
        names = getattr(self.method, "target_modules", ())
        return not any(re.search(r"(^|\.)\d+\.", name) for name in ([names] if isinstance(names, str) else names))

    @property
    def length(self) -> int:
        """Tokens of the longest example."""
        return max(len(example.tokens) for example in self.examples)

    @property
    def learned(self) -> int:
        """The positions in a row that need logits, on average: the columns with a learned token in some row.

        Where examples have masks, the logits of learned tokens alone are computed.
        """
        rows = len(self.examples)
        return -(-padded_learned(self.examples)[0] // rows)


def step_of(model: Model, method: Method, training: TrainingConfig, examples: Sequence[Example], classes: int) -> Step:
    """Return the step of a loaded model."""
    return Step(model.module.config, method, training, examples, model.precision, classes, model.quantization)


@dataclass(frozen=True)
class Prediction:
    """The memory that a training step will take at its peak.

    Attributes:
        tensors: bytes of the tensors, and of scratch memory on a CPU.
        allocated: the same, as torch's allocator on CUDA counts it.
        reserved: about what that allocator takes from the card.
    """

    tensors: MemoryReport
    allocated: MemoryReport
    reserved: MemoryReport

    def on(self, device: torch.device) -> MemoryReport:
        """Return the part of the prediction that a measurement on such a device shows."""
        return self.allocated if device.type == "cuda" else self.tensors
