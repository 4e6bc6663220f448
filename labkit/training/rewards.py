"""Rewards: plain functions that say what replies are worth, and what becomes of those that fail."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import torch

from labkit.errors import LabkitError, require_number, shown
from labkit.generation.replies import Reply

# Takes the row of each reply (what the task says about its prompt) and the replies, and returns a number for each.
Reward: TypeAlias = Callable[[list[dict[str, Any]], list[Reply]], Iterable[float]]


class RewardError(LabkitError):
    """Rewards failed more often than ``RL.max_failures`` allows; its cause is the last failure, with its traceback.

    Attributes:
        run: the model as trained so far; ``labkit.reinforce`` adds it.
    """

    run: Any


class Rewards:
    """One or more rewards, and how much each counts.

    Args:
        rewards: a function, a list of them, or a dictionary of weights: ``{right: 1, short: 0.2}``.

    Raises:
        LabkitError: there is none, one is no function, two have the same name, or a weight is no number.
    """

    def __init__(self, rewards: Reward | Sequence[Reward] | Mapping[Reward, float]):
        given = rewards if isinstance(rewards, Mapping) else dict.fromkeys(_listed(rewards), 1.0)
        odd = [shown(each) for each in given if not callable(each)]
        if odd or not given:
            raise LabkitError(
                f"{odd[0]} is no reward." if odd else "There is no reward.",
                "Pass a function of rows and replies that returns a number for each reply.",
            )
        self.functions = {name_of(each): each for each in given}
        if len(self.functions) < len(given):
            raise LabkitError("Two rewards have the same name.", "Name them apart: the history shows each by its name.")
        self.weights = [require_number(f"The weight of {name_of(each)}", weight) for each, weight in given.items()]

    def __call__(self, rows: list[dict[str, Any]], replies: list[Reply]) -> torch.Tensor:
        """Return what each function gives each reply, shape (replies, functions).

        Raises:
            LabkitError: a function doesn't return one finite number for each reply. What it raises itself is raised.
        """
        columns = [_checked(name, each(rows, replies), len(replies)) for name, each in self.functions.items()]
        return torch.tensor(columns).T

    def total(self, found: torch.Tensor) -> torch.Tensor:
        """Return the weighted sum for each reply."""
        return found @ torch.tensor(self.weights, dtype=found.dtype)


def name_of(reward: Any) -> str:
    """Return the name of a function, or the class of an object that can be called."""
    return getattr(reward, "__name__", type(reward).__name__)


def _listed(rewards: Any) -> list:
    return list(rewards) if isinstance(rewards, (list, tuple)) else [rewards]


def _checked(name: str, found: Any, count: int) -> list[float]:
    values = found.tolist() if hasattr(found, "tolist") else found
    if not isinstance(values, (list, tuple)) or len(values) != count:
        given = f"{len(values)} values" if isinstance(values, (list, tuple)) else shown(found)
        raise LabkitError(f"The reward {name} returned {given} for {count} replies.", "Return a number for each reply.")
    for number, value in enumerate(values, 1):
        if not isinstance(value, (bool, int, float)) or not math.isfinite(value):
            raise LabkitError(
                f"The reward {name} gave reply {number} {shown(value)}.", "Return a finite number for each reply."
            )
    return [float(value) for value in values]
