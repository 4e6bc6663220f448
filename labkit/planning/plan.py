"""Plan a fine-tuning run: how much memory a training step will take, and whether it fits on a GPU."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from transformers import PretrainedConfig

from labkit.errors import LabkitError, require_count, shown, unknown
from labkit.memory.report import MemoryReport
from labkit.methods import Method, get_method
from labkit.models.config import find_config
from labkit.models.context import longest_of
from labkit.models.model import Model
from labkit.models.precision import PRECISIONS
from labkit.planning.allocator import CONTEXT, SHARED
from labkit.planning.format import as_dict, as_text, heading
from labkit.planning.predict import can_simulate, predict_step
from labkit.planning.search import largest_batch, largest_length
from labkit.planning.sizes import parse_size
from labkit.planning.step import Prediction, Step
from labkit.quant.layers import Quantization
from labkit.training.batching import Example
from labkit.training.config import TrainingConfig
from labkit.training.rl import RL


@dataclass(frozen=True)
class Plan:
    """The memory that one training step takes.

    Attributes:
        name: the model's name.
        config: its architecture and sizes.
        method: what is trained.
        training: batch size, checkpointing and the rest.
        length: tokens in each example.
        learned: tokens in each example that are learned.
        precision: the type of matrix products, in which matrices of linear layers are stored.
        gpu: bytes of the GPU's memory; 0 if none was named.
        quantization: how the weights are stored in 4 bits before the method is applied; None if they are not.
        rl: how the step learns from rewards; None if it doesn't.
        reference_copy: whether a second copy of the model before training is in memory.
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
    rl: RL | None = None
    reference_copy: bool = False

    @cached_property
    def prediction(self) -> Prediction:
        """The memory at the peak: of the tensors, as allocated, and as reserved."""
        example = Example([0] * self.length, self.learned, 0)
        rows = self.training.batch_size
        if self.training.preference:  # pairs, which come with masks
            example, rows = replace(example, mask=example.is_learned), 2 * rows
        if self.rl:
            rows = self.rl.group * self.rl.prompts
        same: dict[str, Any] = {name: getattr(self, name) for name in ("quantization", "rl", "reference_copy")}
        return predict_step(Step(self.config, self.method, self.training, [example] * rows, self.precision, **same))

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
        """About how many bytes the allocator will take from the card; monitors show these plus ``context``."""
        return self.prediction.reserved.peak + SHARED

    @property
    def context(self) -> int:
        """Bytes that CUDA itself takes (an assumption)."""
        return CONTEXT

    @property
    def total(self) -> int:
        """Bytes of the card's memory that the run needs."""
        return self.reserved + self.context

    @property
    def fits(self) -> bool:
        """Whether the run fits on the GPU; False if none was named."""
        return bool(self.gpu) and self.total <= self.gpu

    @property
    def simulated(self) -> bool:
        """Whether a step was simulated; otherwise a formula was used."""
        return can_simulate()

    def largest_batch(self) -> int:
        """Return how many examples of this length fit on the GPU in one batch; 0 if not even one does.

        With ``rl``, no more than a step's replies.
        """
        return largest_batch(self)

    def largest_length(self) -> int:
        """Return how many tokens the examples of this batch may have on the GPU; 0 if not even two fit."""
        return largest_length(self)

    @property
    def longest(self) -> int:
        """How many tokens the model can read at once."""
        return longest_of(self.config) - getattr(self.method, "virtual_tokens", 0)

    def to_dict(self) -> dict[str, Any]:
        """Return the plan as a dictionary for JSON, with sizes in bytes."""
        return as_dict(self)

    @property
    def heading(self) -> str:
        """The model and the size of a step as text."""
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
    rl: RL | None = None,
    reference_copy: bool = False,
    **settings: Any,
) -> Plan:
    """Plan a run: return how much memory a training step will take, without allocating it.

    With ``rl``, it is a step of ``lk.reinforce``: drawing replies, scoring them, and updates. All replies are taken to
    be as long as they may be, and what the rewards take themselves is not counted.

    Args:
        model: a published size (``lk.BLUEPRINTS``), an asset, a folder with a config.json, a hub name, a loaded
            model, or a configuration.
        method: as for ``finetune``.
        length: tokens in each example; with ``rl``, of a prompt and its reply.
        learned: tokens in each example that are learned; by default all but the first, which takes the most memory.
            With ``rl``, leave it out: it is ``rl.max_new_tokens``.
        precision: ``"bfloat16"``, ``"float16"`` or ``"float32"``.
        gpu: a size such as ``"48GB"``, or a card such as ``"T4"``.
        rl: how to learn from rewards.
        reference_copy: count a second copy of the model before training, as many libraries hold it for preferences and
            rewards. labkit needs none: it asks the model in training, its adapter disabled.
        **settings: fields of ``TrainingConfig``, such as batch_size (1 by default) and gradient_checkpointing; with a
            preference, the batch is of pairs, and length and learned are those of each of their two texts; with ``rl``,
            it is of replies that are read at once in scoring and training, while all are drawn together.

    Raises:
        LabkitError: an unknown model, method or size, an architecture without plans, or an impossible setting.
    """
    method = get_method(method)
    name, config = find_config(model)
    longest = longest_of(config)
    length = require_count("length", length, low=2, high=longest, remedy="Try 512.")
    if rl is not None:
        learned = _replied(rl, length, learned)
    remedy = f"Of {length} tokens, at most {length - 1} can be learned; leave learned out for these."
    learned = length - 1 if learned is None else require_count("learned", learned, high=length - 1, remedy=remedy)
    if not isinstance(precision, str) or precision not in PRECISIONS:
        raise unknown("precision", precision, PRECISIONS)
    training = TrainingConfig.of(**{"batch_size": 1, "max_length": length, **settings})
    if training.packing:
        raise LabkitError(
            "A plan is of examples of one length, and what packing saves depends on how unlike their lengths are.",
            "Ask lk.predict_memory(model, task, packing=True), or leave packing out and plan for the whole row.",
        )
    size = 0 if gpu is None else parse_size(gpu)
    quantization = model.quantization if isinstance(model, Model) else None
    made = Plan(
        name, config, method, training, length, learned, PRECISIONS[precision], size, quantization, rl, reference_copy
    )
    made.report  # noqa: B018  what cannot be planned fails now rather than at the first use
    return made


def _replied(rl: RL, length: int, learned: int | None) -> int:
    """Return the tokens of a reply."""
    if not isinstance(rl, RL):
        raise LabkitError(f"rl is {shown(rl)}.", 'Pass lk.RL("grpo"), for example.')
    if learned is not None:
        raise LabkitError("Of replies, all tokens are learned.", "Leave learned out, and set max_new_tokens of lk.RL.")
    if length <= rl.max_new_tokens:
        raise LabkitError(
            f"In {length} tokens, a reply of {rl.max_new_tokens} leaves no room for a prompt.",
            "Let length be the tokens of a prompt and its reply, or lower max_new_tokens of lk.RL.",
        )
    return rl.max_new_tokens
