"""Fine-tuning runs: save, load and find them."""

from labkit.runs.load import load_run
from labkit.runs.run import Run, describe

__all__ = ["Run", "describe", "load_run"]
