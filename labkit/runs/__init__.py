"""Finished fine-tuning runs: what they hold, and how they are saved and loaded."""

from labkit.runs.load import load_run
from labkit.runs.run import Run, describe

__all__ = ["Run", "describe", "load_run"]
