"""The comparisons of learning from rewards: rates, algorithms, a reward that can be hacked, and pairs instead.

The questions are those of ``instructions`` that offer choices, and each is asked once: 30 steps of 4 questions. A reply
that only repeats what it was offered shows whether a reward pays for the answer or for something near it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from labkit.comparisons.preference_learning import BEST as OF_PAIRS
from labkit.comparisons.preference_learning import FEW, MOST_LOST
from labkit.comparisons.settings import over_seeds
from labkit.training.preference import LOSSES
from labkit.training.rl import ALGORITHMS

if TYPE_CHECKING:
    from pandas import DataFrame

SETTING: dict[str, Any] = {
    "model": "smollm2-135m",
    "task": "instructions",
    "steps": 30,
    "batch_size": 8,  # replies that are read at once; of DPO, pairs: as many replies an update as the others learn from
    "train": 120,
    "test": 96,
}
HELD_OUT = {"train": 168, "held_out": 48}  # leaves as many to train on
SEARCHED, RATES = ("rloo", "grpo", "ppo"), (3e-5, 1e-4, 3e-4)
# The others have the rate of their nearest kin. They differ most in the size of gradients, which AdamW divides by.
KIN = {"reinforce": "rloo", "dr_grpo": "grpo"}
BEST = dict.fromkeys(ALGORITHMS, 1e-4)  # a guess, until `best_rates` has read the search
BETA = 0.05  # of the KL divergence from the model before training


def reward_rates() -> Iterator[dict[str, Any]]:
    """Learning rates for three algorithms, on held-out questions."""
    for algorithm in SEARCHED:
        for rate in RATES:
            setting = _setting(algorithm, "mentioned") | HELD_OUT
            yield from over_seeds(setting, {"name": "lora"}, rate, seeds=(0,))


def best_rates(rows: DataFrame) -> dict[str, float]:
    """Return the best rate of each algorithm that the search's rows have, and of its kin.

    It is the one whose model mentions the right answer most often, as it was rewarded for, of those after which the
    loss on general conversations has risen by no more than ``MOST_LOST``; of equally good ones, the lower. An algorithm
    that has no such rate is left out.
    """
    kept = rows[rows["chat_rise"] <= MOST_LOST]
    kept = kept.assign(paid=kept["mentioned"].str.count("1")).sort_values(
        ["paid", "learning_rate"], ascending=[False, True]
    )
    found = {
        str(name): float(tried["learning_rate"].iloc[0]) for name, tried in kept.groupby("data.algorithm", sort=False)
    }
    return found | {name: found[kin] for name, kin in KIN.items() if kin in found}


def algorithms() -> Iterator[dict[str, Any]]:
    """Each algorithm at its best rate, for what a reply says, that it ends, and that it is short."""
    for seed in FEW:
        for algorithm in ALGORITHMS:
            yield from _run(seed, algorithm, "mentioned, ended, short")


def hacking() -> Iterator[dict[str, Any]]:
    """A reward that a list of all choices gets, too, and one that it does not get, each with and without KL."""
    for seed in FEW:
        for reward in ("mentioned", "names_only"):
            for beta in (0.0, BETA):
                yield from _run(seed, "rloo", reward, beta=beta)


def against_pairs() -> Iterator[dict[str, Any]]:
    """The same questions, as many replies and the same judge: replies of the model in training, or pairs of the base's.

    DPO's rate is the one that suited other pairs, those of ``preferences``.
    """
    for seed in FEW:
        yield from _run(seed, "rloo", "names_only")
        yield from _run(seed, "dpo", "names_only", beta=LOSSES["dpo"])


def _run(seed: int, algorithm: str, reward: str, **changed: Any) -> Iterator[dict[str, Any]]:
    rate = OF_PAIRS["dpo"] if algorithm == "dpo" else BEST[algorithm]
    yield from over_seeds(_setting(algorithm, reward, **changed), {"name": "lora"}, rate, seeds=(seed,))


def _setting(algorithm: str, reward: str, **changed: Any) -> dict[str, Any]:
    return SETTING | {"data": {"algorithm": algorithm, "reward": reward, "beta": 0.0} | changed}
