"""A step's memory, simulated where this torch can, and estimated where it cannot."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import torch
from transformers import PretrainedConfig

from labkit.methods import Method
from labkit.planning.estimate import Prediction, estimate
from labkit.training.batching import Example
from labkit.training.config import TrainingConfig

try:
    from labkit.planning import simulate
except (ImportError, AttributeError):  # parts of torch that may change
    simulate = None


class EstimateWarning(UserWarning):
    """A plan is an estimate by formula, since this torch cannot simulate a step."""


def can_simulate() -> bool:
    """Say whether this torch has what the simulation needs."""
    return simulate is not None


def predicted(
    config: PretrainedConfig,
    method: Method,
    training: TrainingConfig,
    examples: Sequence[Example],
    precision: torch.dtype,
    classes: int = 2,
) -> Prediction:
    """Return a simulated step's memory, or an estimate where this torch cannot simulate.

    Warns:
        EstimateWarning: it is an estimate.
    """
    if simulate is not None:
        return simulate.predict(config, method, training, examples, precision, classes)
    warnings.warn(
        "This torch has changed in parts that the simulation needs: the plan is an estimate by formula.",
        EstimateWarning,
        stacklevel=3,
    )
    length = max(len(example.tokens) for example in examples)
    learned = max(example.learned for example in examples)
    guess = estimate(config, method, training, len(examples), length, learned, precision, classes)
    return Prediction(guess, guess, guess)
