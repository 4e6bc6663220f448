"""The comparisons of learning from a learned reward: algorithms, how tight a leash, and pairs instead."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from labkit.comparisons.preference_learning import FEW
from labkit.comparisons.settings import over_seeds
from labkit.training.preference import LOSSES
from labkit.training.rl import ALGORITHMS

SETTING: dict[str, Any] = {
    "model": "smollm2-135m",
    "task": "preferences",
    "steps": 16,
    "batch_size": 8,  # replies that are read at once; of DPO, pairs: as many replies an update as the others learn from
    "train": 256,
    "test": 120,
}
RATE = 1e-3  # of all algorithms: none was searched
BETAS = (0.3, 1.0, 3.0)  # weights of the KL divergence from the model before training


def algorithms() -> Iterator[dict[str, Any]]:
    """Each algorithm at the same rate, without KL, whose weight means something else in each."""
    for seed in FEW:
        for algorithm in ALGORITHMS:
            yield from _run(seed, algorithm, 0.0)


def hacking() -> Iterator[dict[str, Any]]:
    """RLOO with more and more KL; without, it is among ``algorithms``."""
    for seed in FEW:
        for beta in BETAS:
            yield from _run(seed, "rloo", beta)


def against_pairs() -> Iterator[dict[str, Any]]:
    """DPO on the same questions, with as many replies and the same judge: pairs of the base model's own replies.

    What it is compared with is RLOO's part of ``algorithms``.
    """
    for seed in FEW:
        yield from _run(seed, "dpo", LOSSES["dpo"])


def _run(seed: int, algorithm: str, beta: float | None) -> Iterator[dict[str, Any]]:
    setting = SETTING | {"data": {"algorithm": algorithm, "beta": beta}}
    yield from over_seeds(setting, {"name": "lora"}, RATE, seeds=(seed,))
