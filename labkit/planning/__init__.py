"""Predict the memory of a training step before it is run, for any model of a known kind."""

from labkit.planning.estimate import estimate
from labkit.planning.fit import require_fit
from labkit.planning.plan import Plan, plan
from labkit.planning.predict import EstimateWarning, predicted
from labkit.planning.step import Prediction, Step, step_of

__all__ = ["EstimateWarning", "Plan", "Prediction", "Step", "estimate", "plan", "predicted", "require_fit", "step_of"]
