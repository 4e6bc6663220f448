"""Predict the memory of a training step before it is run, for any model of a known kind."""

from labkit.planning.configs import find_config, method_on
from labkit.planning.estimate import Prediction, estimate
from labkit.planning.fit import require_fit
from labkit.planning.plan import Plan, plan
from labkit.planning.predicted import EstimateWarning, predicted

__all__ = [
    "EstimateWarning",
    "Plan",
    "Prediction",
    "estimate",
    "find_config",
    "method_on",
    "plan",
    "predicted",
    "require_fit",
]
