"""Plan a fine-tuning run for any model of a known kind: what will it take, and where does it fit?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from transformers import PretrainedConfig

from labkit.errors import LabkitError, require_count, unknown
from labkit.memory.report import MemoryReport
from labkit.methods import Method, get_method
from labkit.models.config import find_config
from labkit.models.context import longest_of
from labkit.models.model import Model
from labkit.models.precision import PRECISIONS
from labkit.planning import sizes
from labkit.planning.format import as_dict, as_text, heading
from labkit.planning.predict import can_simulate, predict_step
from labkit.planning.search import MOST, most_that_fits
from labkit.planning.step import Prediction, Step
from labkit.quant.layers import Quantization
from labkit.training.batching import Example
from labkit.training.config import TrainingConfig


@dataclass(frozen=True)
class Plan:
    """What one training step takes in memory.

    Attributes:
        name: the model.
        config: its architecture and sizes.
        method: what is trained.
        training: batch size, checkpointing and the rest.
        length: tokens of each example.
        learned: tokens of each example that are learned.
        precision: the type of matrix products, in which matrices of linear layers are stored.
        gpu: bytes of the card's memory; 0 where none was named.
        quantization: how the weights are stored in 4 bits before the method comes; None where they are not.
    """

    name: str
    config: PretrainedConfig
    method: Method
    training: TrainingConfig
    length: int
    learned: int
    precision: torch.dtype
    gpu: int = 0
    quantization: Quantization | None = None

    @cached_property
    def prediction(self) -> Prediction:
        """The memory at the peak, as tensors, allocated and reserved."""
        examples = [Example([0] * self.length, self.learned, 0)] * self.training.batch_size
        return predict_step(
            Step(self.config, self.method, self.training, examples, self.precision, quantization=self.quantization)
        )

    @property
    def report(self) -> MemoryReport:
        """Bytes by kind at the peak."""
        return self.prediction.tensors

    @property
    def peak(self) -> int:
        """Bytes of all tensors at the peak."""
        return self.report.peak

    @property
    def allocated(self) -> int:
        """Bytes that torch's allocator on CUDA will count at the peak."""
        return self.prediction.allocated.peak

    @property
    def reserved(self) -> int:
        """About the bytes that the allocator will have taken from the card; a monitor shows these and ``context``."""
        return self.prediction.reserved.peak + sizes.SHARED

    @property
    def context(self) -> int:
        """Bytes that CUDA itself takes, an assumption."""
        return sizes.CONTEXT

    @property
    def total(self) -> int:
        """Bytes of the card that the run needs."""
        return self.reserved + self.context

    @property
    def fits(self) -> bool:
        """Whether the run fits the GPU; false where none was named."""
        return bool(self.gpu) and self.total <= self.gpu

    @property
    def simulated(self) -> bool:
        """Whether a step was simulated; else a formula was used."""
        return can_simulate()

    def largest_batch(self) -> int:
        """Return how many examples of this length fit the GPU in one batch; 0 where not even one does."""
        return self._largest(self.training.batch_size, MOST, lambda count: self._with(count, self.length))

    def largest_length(self) -> int:
        """Return how long the examples of this batch may be on the GPU."""
        batch = self.training.batch_size
        most = self._largest(self.length, self.longest, lambda count: self._with(batch, max(2, count)))
        return most if most > 1 else 0

    @property
    def longest(self) -> int:
        """How many tokens the model can read at once."""
        return longest_of(self.config) - getattr(self.method, "virtual_tokens", 0)

    def to_dict(self) -> dict:
        """Return the plan as JSON can hold it, sizes in bytes."""
        return as_dict(self)

    def _with(self, batch: int, length: int) -> Plan:
        whole = self.learned == self.length - 1
        learned = length - 1 if whole else max(1, self.learned * length // self.length)
        return replace(self, training=replace(self.training, batch_size=batch), length=length, learned=learned)

    def _largest(self, start: int, limit: int, change: Callable[[int], Plan]) -> int:
        if not self.gpu:
            raise LabkitError("There is no GPU to fit.", 'Name one: lk.plan(…, gpu="24GB").')
        fixed = self.report.parameters + self.report.optimizer + self.context
        return most_that_fits(lambda count: change(count).total, (start, self.total), self.gpu, fixed, limit)

    @property
    def heading(self) -> str:
        """The model and the size of a step, in words."""
        return heading(self)

    def __str__(self) -> str:
        return as_text(self)


def plan(
    model: str | Model | PretrainedConfig,
    method: str | Method = "lora",
    *,
    length: int = 512,
    learned: int | None = None,
    precision: str = "bfloat16",
    gpu: str | int | None = None,
    **settings,
) -> Plan:
    """Plan a run: say what a training step will take, without allocating it.

    Args:
        model: a published size (``lk.BLUEPRINTS``), an asset, a folder with a config.json, a hub name, a loaded
            model, or a configuration.
        method: as for ``finetune``.
        length: tokens of each example.
        learned: tokens of each example that are learned; all but the first by default, which takes most.
        precision: ``"bfloat16"``, ``"float16"`` or ``"float32"``.
        gpu: a size such as ``"48GB"``, or a card such as ``"T4"``.
        **settings: fields of ``TrainingConfig``, such as batch_size (1 by default) and gradient_checkpointing.

    Raises:
        LabkitError: a model of unknown kind, an unknown method or size, or an impossible setting.
    """
    method = get_method(method)
    name, config = find_config(model)
    longest = longest_of(config)
    length = require_count("length", length, low=2, high=longest, remedy="Try 512.")
    remedy = f"Of {length} tokens, all but the first can be learned; leave it out for that."
    learned = length - 1 if learned is None else require_count("learned", learned, high=length - 1, remedy=remedy)
    if not isinstance(precision, str) or precision not in PRECISIONS:
        raise unknown("precision", precision, PRECISIONS)
    training = TrainingConfig.of(**{"batch_size": 1, "max_length": length, **settings})
    size = 0 if gpu is None else sizes.parse_size(gpu)
    quantization = model.quantization if isinstance(model, Model) else None
    made = Plan(name, config, method, training, length, learned, PRECISIONS[precision], size, quantization)
    made.report  # noqa: B018  finds what cannot be planned now rather than later
    return made
