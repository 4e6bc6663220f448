"""Predict the memory of a training step: by a simulation, or by a formula if this torch cannot simulate."""

from __future__ import annotations

import warnings

from labkit.planning.estimate import estimate
from labkit.planning.step import Prediction, Step

try:
    from labkit.planning.extrapolate import extrapolate
except (ImportError, AttributeError):  # private parts of torch, which may change
    SUPPORTED = False
else:
    SUPPORTED = True


class EstimateWarning(UserWarning):
    """A plan is an estimate by formula, because this torch cannot simulate a step."""


def can_simulate() -> bool:
    """Return whether this torch has what the simulation needs."""
    return SUPPORTED


def predict_step(step: Step) -> Prediction:
    """Return the memory of a training step at its peak: simulated, or estimated if this torch cannot simulate.

    Warns:
        EstimateWarning: the prediction is an estimate.
    """
    if SUPPORTED:
        return extrapolate(step)
    warnings.warn(
        "This torch has changed in parts that the simulation needs: the plan is an estimate by formula.",
        EstimateWarning,
        stacklevel=3,
    )
    guess = estimate(step)
    return Prediction(guess, guess, guess)
