"""The settings that runs of a sweep share (model, task, budget), and one run for each seed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

SEEDS = (0, 1, 2, 3, 4)
MINILM: dict[str, Any] = {
    "model": "minilm",
    "task": "triage",
    "steps": 60,
    "batch_size": 16,
    "train": 2000,
    "test": 600,
}
SMOLLM2: dict[str, Any] = {
    "model": "smollm2-135m",
    "task": "triage",
    "steps": 40,
    "batch_size": 16,
    "train": 1000,
    "test": 300,
}
SHORT: dict[str, Any] = SMOLLM2 | {"steps": 20, "batch_size": 8}  # for one run, of which many things are made


def over_seeds(
    setting: dict[str, Any], method: dict[str, Any], learning_rate: float, seeds: Sequence[int] = SEEDS
) -> Iterator[dict[str, Any]]:
    """Yield the settings of one run for each seed."""
    for seed in seeds:
        yield {**setting, "method": method, "learning_rate": learning_rate, "seed": seed}
