"""Runs as they are before their first step."""

from torch import nn

import labkit as lk
from labkit.runs import Run, describe


def run_of(model, method, classes=0):
    """Return a run of a method as it is before its first step."""
    tuned = method.apply(model)
    if classes:
        tuned.head = nn.Linear(32, classes)
    labels = tuple("abcdefgh"[:classes])
    return Run(tuned, method, lk.TrainingConfig(), describe(model), "colours", labels, [{"step": 1, "loss": 1.0}])
