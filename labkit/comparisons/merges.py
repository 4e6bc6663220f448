"""The comparison of ways to make one model of two specialists, beside each alone and one that learned both jobs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from labkit.comparisons.preference_learning import FEW
from labkit.comparisons.settings import over_seeds

SETTING: dict[str, Any] = {
    "model": "smollm2-135m",
    "task": "hospital and law",
    "steps": 30,
    "batch_size": 8,
    "train": 400,  # for each job
    "test": 100,  # of each task with labels
}
RATE = 1e-3  # by `method-rates-smollm2`: of the rates tried at ranks 4 and 16, the best for both together
WAYS: tuple[dict[str, Any], ...] = (
    {"way": "base"},
    {"way": "hospital"},
    {"way": "law"},
    {"way": "linear", "weight": 0.5},
    {"way": "linear", "weight": 1.0},
    {"way": "cat", "weight": 0.5},
    {"way": "cat", "weight": 1.0},
    {"way": "ties", "weight": 1.0, "density": 0.2},
    {"way": "ties", "weight": 1.0, "density": 0.5},
    {"way": "dare", "weight": 1.0, "density": 0.5},
    {"way": "dare_ties", "weight": 1.0, "density": 0.5},
)


def merges() -> Iterator[dict[str, Any]]:
    """Both adapters of each seed alone and combined in every way, and one that learned both jobs in as many steps."""
    for seed in FEW:
        for way in WAYS:
            yield from _run(seed, SETTING | {"data": way})
    for seed in FEW:
        yield from _run(seed, SETTING | {"data": {"way": "both"}, "steps": 2 * SETTING["steps"]})


def _run(seed: int, setting: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield from over_seeds(setting, {"name": "lora"}, RATE, seeds=(seed,))
