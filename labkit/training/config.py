"""The settings of a training run, checked when they are made."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from labkit.errors import LabkitError, require_count, require_number, require_seed, set_checked, shown, unknown
from labkit.models.context import MAX_LENGTH
from labkit.training.preference import Preference

SCHEDULES = ("linear", "cosine", "constant")
OPTIMIZERS = ("adamw", "paged_adamw")
LEARN = ("last", "all")


@dataclass(frozen=True)
class TrainingConfig:
    """How to train.

    Attributes:
        steps: optimizer updates.
        learning_rate: the highest rate, reached after the warm-up.
        batch_size: examples in a forward pass; with packing, rows of them; with a preference, pairs.
        accumulation: forward passes whose gradients are added up for one update.
        warmup: share of the steps in which the rate climbs from 0.
        schedule: how the rate then falls to 0: ``"linear"``, ``"cosine"``, or ``"constant"`` for not at all.
        weight_decay: AdamW's decay (Loshchilov and Hutter, 2019, arXiv:1711.05101).
        max_grad_norm: gradients with a larger Euclidean norm are scaled down to it.
        max_length: tokens of prompt and completion; a longer prompt loses its beginning.
        packing: put several examples into each row, up to ``max_length`` tokens, each read as if it were alone.
        preference: for tasks of pairs, the loss that prefers chosen completions to rejected ones; a name of one, such
            as ``"dpo"``, will do.
        learn: what is learned of a conversation: ``"last"``, the last reply, or ``"all"``, every reply.
        replay_every: each k-th update uses replay text, if there is any.
        gradient_checkpointing: keep only the input of each block for the backward pass and compute the rest
            again there (Chen et al., 2016, arXiv:1604.06174): less memory, more time.
        optimizer: ``"adamw"``, or ``"paged_adamw"`` on CUDA, whose states move to main memory when the GPU is full.
        checkpoint_every: updates from one checkpoint to the next, if there is a folder for them.
        seed: fixes the order of examples, new parameters and dropout.
    """

    steps: int = 60
    learning_rate: float = 1e-4
    batch_size: int = 16
    accumulation: int = 1
    warmup: float = 0.1
    schedule: str = "linear"
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    max_length: int = MAX_LENGTH
    packing: bool = False
    preference: Preference | None = None
    learn: str = "last"
    replay_every: int = 4
    gradient_checkpointing: bool = False
    optimizer: str = "adamw"
    checkpoint_every: int = 20
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "accumulation", "max_length", "checkpoint_every"):
            set_checked(self, **{name: require_count(name, getattr(self, name))})
        set_checked(
            self,
            learning_rate=require_number("learning_rate", self.learning_rate, above=0),
            max_grad_norm=require_number("max_grad_norm", self.max_grad_norm, above=0),
            replay_every=require_count(
                "replay_every", self.replay_every, low=2, remedy="With 1, no update would use the task."
            ),
            warmup=require_number("warmup", self.warmup, low=0, below=1, remedy="Try 0.1."),
            weight_decay=require_number("weight_decay", self.weight_decay, low=0, remedy="Try 0 or 0.01."),
            seed=require_seed(self.seed),
        )
        if not isinstance(self.packing, bool):
            raise LabkitError(f"packing must be True or False, not {self.packing!r}.", "Try packing=True.")
        self._check_preference()
        if self.learn not in LEARN:
            raise unknown("part of a conversation to learn", str(self.learn), LEARN)
        if self.schedule not in SCHEDULES:
            raise unknown("schedule", self.schedule, SCHEDULES)
        if self.optimizer not in OPTIMIZERS:
            raise unknown("optimizer", self.optimizer, OPTIMIZERS)

    def _check_preference(self) -> None:
        given: Any = self.preference
        if isinstance(given, str | dict):  # a name, or the fields in a saved run
            object.__setattr__(self, "preference", Preference(**({"loss": given} if isinstance(given, str) else given)))
        elif given is not None and not isinstance(given, Preference):
            raise LabkitError(f"preference must be a Preference, not {shown(given)}.", 'Try lk.Preference("dpo").')
        if self.preference is None:
            return
        if self.packing:
            raise LabkitError("Pairs can't be packed: each completion needs a row of its own.", "Leave packing out.")
        if self.preference.loss == "kto" and self.batch_size < 2:
            raise LabkitError(
                "KTO compares each completion with the prompts of other pairs in the batch, and batch_size is 1.",
                "Set batch_size=2 or more.",
            )

    @classmethod
    def of(cls, **settings: Any) -> TrainingConfig:
        """Return a configuration from settings by name; raise a ``LabkitError`` that lists all names for another."""
        if odd := settings.keys() - cls.__dataclass_fields__.keys():
            raise unknown("setting", sorted(odd)[0], cls.__dataclass_fields__)
        return cls(**settings)

    def rate_at(self, step: int) -> float:
        """Return the learning rate of a step, counted from 0: a linear warm-up, then the schedule's decay."""
        warm = round(self.warmup * self.steps)
        if step < warm:
            return self.learning_rate * (step + 1) / warm
        done = (step - warm) / max(1, self.steps - warm)
        shape = {"constant": 1.0, "linear": 1 - done, "cosine": 0.5 * (1 + math.cos(math.pi * done))}
        return self.learning_rate * shape[self.schedule]
