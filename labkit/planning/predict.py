"""A step's memory, simulated where this torch can, and estimated where it cannot."""

from __future__ import annotations

import warnings

from labkit.planning.estimate import estimate
from labkit.planning.step import Prediction, Step

try:
    from labkit.planning.extrapolate import extrapolate
except (ImportError, AttributeError):  # parts of torch that may change
    extrapolate = None


class EstimateWarning(UserWarning):
    """A plan is an estimate by formula, since this torch cannot simulate a step."""


def can_simulate() -> bool:
    """Say whether this torch has what the simulation needs."""
    return extrapolate is not None


def predict_step(step: Step) -> Prediction:
    """Return a simulated step's memory, or an estimate where this torch cannot simulate.

    Warns:
        EstimateWarning: it is an estimate.
    """
    if extrapolate is not None:
        return extrapolate(step)
    warnings.warn(
        "This torch has changed in parts that the simulation needs: the plan is an estimate by formula.",
        EstimateWarning,
        stacklevel=3,
    )
    guess = estimate(step)
    return Prediction(guess, guess, guess)
