"""The comparisons of learning from a learned reward: rates, algorithms, how tight a leash, and pairs instead."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from labkit.comparisons.preference_learning import BEST as OF_PAIRS
from labkit.comparisons.preference_learning import FEW
from labkit.comparisons.settings import over_seeds
from labkit.training.preference import LOSSES
from labkit.training.rl import ALGORITHMS

if TYPE_CHECKING:
    from pandas import DataFrame

SETTING: dict[str, Any] = {
    "model": "smollm2-135m",
    "task": "preferences",
    "steps": 16,
    "batch_size": 8,  # replies that are read at once; of DPO, pairs: as many replies an update as the others learn from
    "train": 256,
    "test": 120,
}
HELD_OUT = {"train": 336, "held_out": 80}  # leaves as many to train on
SEARCHED, RATES = ("rloo", "grpo", "ppo"), (3e-4, 1e-3)
# The others have the rate of their nearest kin. They differ most in the size of gradients, which AdamW divides by.
KIN = {"reinforce": "rloo", "dr_grpo": "grpo"}
BEST = dict.fromkeys(ALGORITHMS, 1e-3)  # by `best_rates`
BETAS = (0.0, 0.3, 1.0)  # weights of the KL divergence from the model before training
LONGER = {"steps": 24}  # so that a model has the time to go too far


def reward_rates() -> Iterator[dict[str, Any]]:
    """Learning rates for three algorithms, on held-out questions."""
    for algorithm in SEARCHED:
        for rate in RATES:
            yield from over_seeds(_setting(algorithm, 0.0) | HELD_OUT, {"name": "lora"}, rate, seeds=(0,))


def best_rates(rows: DataFrame) -> dict[str, float]:
    """Return the best rate of each algorithm that the search's rows have, and of its kin.

    It is the one after which the likeliest replies earn most. No rate is refused for what it does to the model
    otherwise: whether the reward can be trusted is what the other comparisons ask.
    """
    tried = rows.sort_values(["reward", "learning_rate"], ascending=[False, True])
    found = {str(name): float(some["learning_rate"].iloc[0]) for name, some in tried.groupby("data.algorithm")}
    return found | {name: found[kin] for name, kin in KIN.items() if kin in found}


def algorithms() -> Iterator[dict[str, Any]]:
    """Each algorithm at its best rate, without KL, whose weight means something else in each."""
    for seed in FEW:
        for algorithm in ALGORITHMS:
            yield from _run(seed, algorithm, 0.0)


def hacking() -> Iterator[dict[str, Any]]:
    """A learned reward without KL, and with more and more of it."""
    for seed in FEW:
        for beta in BETAS:
            yield from _run(seed, "rloo", beta, **LONGER)


def against_pairs() -> Iterator[dict[str, Any]]:
    """DPO on the same questions, with as many replies and the same judge: pairs of the base model's own replies.

    Its rate is the one that suited other pairs, those of ``preferences``. What it is compared with is RLOO's part of
    ``algorithms``.
    """
    for seed in FEW:
        yield from _run(seed, "dpo", LOSSES["dpo"])


def _run(seed: int, algorithm: str, beta: float | None, **changed: Any) -> Iterator[dict[str, Any]]:
    rate = OF_PAIRS["dpo"] if algorithm == "dpo" else BEST[algorithm]
    yield from over_seeds(_setting(algorithm, beta) | changed, {"name": "lora"}, rate, seeds=(seed,))


def _setting(algorithm: str, beta: float | None) -> dict[str, Any]:
    return SETTING | {"data": {"algorithm": algorithm, "beta": beta}}
