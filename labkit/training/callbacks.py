"""Callbacks: functions that are called after each training step, to measure or to show progress."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from tqdm.auto import tqdm

from labkit.errors import require_count
from labkit.models.model import Model


class Callback(Protocol):
    """Called after each step.

    ``record`` is the step's line in the history; a callback may add to it. Returning True ends the run, and the
    callbacks after it get ``last=True``.
    """

    def __call__(self, model: Model, record: dict, last: bool) -> bool | None:
        """Inspect ``model`` after ``record["step"]`` steps; ``last`` says whether the run is over."""


class Every:
    """Measure something every few steps and after the last one.

    >>> lk.Every(20, lambda model: {"accuracy": lk.evaluate(model, task).accuracy})

    Args:
        steps: steps from one measurement to the next.
        measure: takes the model and returns what to add to the history.
    """

    def __init__(self, steps: int, measure: Callable[[Model], dict]):
        self.steps = require_count("steps", steps)
        self.measure = measure

    def __call__(self, model: Model, record: dict, last: bool) -> None:
        """Add the measurements to the record, on every ``steps``-th step."""
        if last or record["step"] % self.steps == 0:
            record.update(self.measure(model))


class Progress:
    """A progress bar, for notebooks and terminals."""

    def __init__(self, total: int):
        self.bar = tqdm(total=total, desc="training", unit="step")

    def __call__(self, model: Model, record: dict, last: bool) -> None:
        """Move the bar and show the loss."""
        self.bar.update(record["step"] - self.bar.n)  # a resumed run doesn't start at 0
        self.bar.set_postfix(loss=f"{record['loss']:.3f}")

    def say(self, text: str) -> None:
        """Write a line in front of the bar.

        In a notebook this changes the bar that is there already, so a cell's stored outputs are the same as without.
        """
        self.bar.set_description_str(text)

    def skip(self, record: dict, text: str) -> None:
        """Move the bar to a step that another run made, without a time."""
        self.bar.bar_format = "{l_bar}{bar}| {n_fmt}/{total_fmt}{postfix}"
        self.say(text)
        self.bar.set_postfix(loss=f"{record['loss']:.3f}", refresh=False)
        self.bar.update(record["step"] - self.bar.n)

    def close(self) -> None:
        """End the bar at its current step."""
        self.bar.close()
