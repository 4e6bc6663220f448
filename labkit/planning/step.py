"""The input and the output of a memory prediction: a training step, and the memory that it takes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers import PretrainedConfig

from labkit.errors import LabkitError, shown
from labkit.memory.report import MemoryReport
from labkit.methods import Method
from labkit.models.meta import kind_to_plan
from labkit.models.model import Model
from labkit.quant.layers import Quantization
from labkit.training.batching import Example
from labkit.training.config import TrainingConfig
from labkit.training.rl import RL
from labkit.training.rl_settings import require_suited
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
        rl: how the step learns from rewards; its examples are then all replies, each behind its prompt, and
            ``training.batch_size`` of them are read at once.
        reference_copy: whether a second copy of the model before training is in memory, as the reference.

    Raises:
        LabkitError: an encoder is to learn from rewards, settings don't go with them, or there is nothing to compare
            with a reference.
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

    def __post_init__(self) -> None:
        if not isinstance(self.reference_copy, bool):
            raise LabkitError(f"reference_copy must be True or False, not {shown(self.reference_copy)}.", "Try True.")
        if self.rl is not None:
            self._check_rl(self.rl)
        preference = self.training.preference
        if self.reference_copy and self.rl is None and not (preference and preference.needs_reference):
            what = preference.loss if preference else "This run"
            raise LabkitError(
                f"{what} compares with no reference.",
                'Leave reference_copy out, or name what compares: preference="dpo", or rl=lk.RL(…).',
            )

    def _check_rl(self, rl: RL) -> None:
        require_suited(rl, self.training, self.method, reference=self.reference_copy)
        if kind_to_plan(self.config) != "causal":
            raise LabkitError("An encoder writes no replies.", "Plan for a causal model, such as smollm2-135m.")
        if rl.sampling.top_p < 1 and rl.sampling.top_k is None:
            raise LabkitError(
                f"The tokens that top_p={rl.sampling.top_p:g} leaves are kept, and nobody knows beforehand how many.",
                "Set top_k, too: there are never more.",
            )

    @property
    def read(self) -> Sequence[Example]:
        """The examples that the model reads at once."""
        return self.examples[-self.training.batch_size :] if self.rl else self.examples

    @property
    def alike(self) -> bool:
        """Whether the method treats all blocks alike, and doesn't name layers of single ones (``layers.3.q_proj``)."""
        names = getattr(self.method, "target_modules", ())
        return not any(re.search(r"(^|\.)\d+\.", name) for name in ([names] if isinstance(names, str) else names))

    @property
    def length(self) -> int:
        """Tokens of the longest example."""
        return max(len(example.tokens) for example in self.read)

    @property
    def learned(self) -> int:
        """The positions in a row that need logits, on average: the columns with a learned token in some row.

        Where examples have masks, the logits of learned tokens alone are computed.
        """
        return -(-padded_learned(self.read)[0] // len(self.read))


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
