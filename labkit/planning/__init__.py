"""Plan a run's memory before it starts, for the architectures that are ``planned``.

``labkit.planning.plan`` and ``.estimate`` are modules: import their functions from there.
"""

from labkit.planning.fit import require_fit
from labkit.planning.plan import Plan
from labkit.planning.predict import EstimateWarning, predict_step
from labkit.planning.step import Prediction, Step, step_of

__all__ = ["EstimateWarning", "Plan", "Prediction", "Step", "predict_step", "require_fit", "step_of"]
