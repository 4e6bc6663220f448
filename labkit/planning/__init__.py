"""Predict the memory of a training step before it is run, for any model of a known kind."""

from labkit.planning.estimate import Prediction, estimate
from labkit.planning.fit import require_fit
from labkit.planning.plan import EstimateWarning, Plan, find_config, plan, predicted

__all__ = ["EstimateWarning", "Plan", "Prediction", "estimate", "find_config", "plan", "predicted", "require_fit"]
