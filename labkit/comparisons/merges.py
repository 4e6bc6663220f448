"""The comparison of ways to make one model of two specialists, beside each alone and one that learned both jobs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from labkit.comparisons.settings import SEEDS, over_seeds

SETTING: dict[str, Any] = {
    "model": "smollm2-135m",
    "task": "hospital and law",
    "steps": 50,
    "batch_size": 8,
    "train": 400,  # for each job
    "test": 120,  # of each task with labels
}
RATE = 1e-3  # by `method-rates-smollm2`: of the rates tried at ranks 4 and 16, the best for both together
# The way, the weight of either adapter, and the density.
WAYS: tuple[tuple[str, float | None, float | None], ...] = (
    ("base", None, None),
    ("hospital", None, None),
    ("law", None, None),
    ("linear", 0.5, None),
    ("linear", 1.0, None),
    ("cat", 0.5, None),
    ("cat", 1.0, None),
    ("ties", 1.0, 0.2),
    ("ties", 1.0, 0.5),
    ("dare", 1.0, 0.5),
    ("dare_ties", 1.0, 0.5),
)


def merges() -> Iterator[dict[str, Any]]:
    """Both adapters of each seed alone and combined in every way, and one that learned both jobs in as many steps."""
    for seed in SEEDS:
        for way, weight, density in WAYS:
            yield from _run(seed, SETTING, way, weight, density)
    for seed in SEEDS:
        yield from _run(seed, SETTING | {"steps": 2 * SETTING["steps"]}, "both", None, None)


def _run(
    seed: int, setting: dict[str, Any], way: str, weight: float | None, density: float | None
) -> Iterator[dict[str, Any]]:
    data = {"way": way, "weight": weight, "density": density}
    yield from over_seeds(setting | {"data": data}, {"name": "lora"}, RATE, seeds=(seed,))
