"""The comparisons of preference learning: losses on the same pairs, values of beta, likelihood, and length."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from labkit.comparisons.settings import SEEDS, over_seeds
from labkit.training.preference import LOSSES

SETTING: dict[str, Any] = {
    "model": "smollm2-135m",
    "task": "preferences",
    "steps": 32,
    "batch_size": 8,
    "train": 256,
    "test": 120,
}
HELD_OUT = {"train": 336, "held_out": 80}  # leaves as many to train on
RATES = (3e-4, 1e-3, 3e-3)
NAMES = ("sft", *LOSSES)
BEST = dict.fromkeys(NAMES, 1e-3)  # a guess, until the search `preference-rates` has run
BETAS = (0.01, 0.03, 0.1, 0.3, 1.0)  # of DPO
SFT = 1.0  # the weight of supervised fine-tuning beside DPO
SHORT = {"steps": 16}  # one pass: half of the pairs have the longer reply chosen
UNEQUAL = ("dpo", "simpo")  # the one adds a reply's tokens up, the other one takes their mean
FEW = SEEDS[:3]  # a run takes three minutes of one core


def preference_rates() -> Iterator[dict[str, Any]]:
    """Learning rates for each loss, on held-out pairs."""
    for loss in NAMES:
        for rate in RATES:
            yield from over_seeds(_setting(loss) | HELD_OUT, {"name": "lora"}, rate, seeds=(0,))


def preferences() -> Iterator[dict[str, Any]]:
    """Each loss at its best rate, DPO with each beta, and DPO beside supervised fine-tuning."""
    for seed in FEW:
        for loss in NAMES:
            yield from _run(seed, loss)
        for beta in BETAS:
            if beta != LOSSES["dpo"]:
                yield from _run(seed, "dpo", beta=beta)
        yield from _run(seed, "dpo", sft=SFT)


def length_bias() -> Iterator[dict[str, Any]]:
    """Pairs whose chosen reply is always the longer one, and as many where it is so in half of them."""
    for seed in FEW:
        for pairs in ("both", "longer chosen"):
            for loss in UNEQUAL:
                yield from over_seeds(_setting(loss, pairs=pairs) | SHORT, {"name": "lora"}, BEST[loss], seeds=(seed,))


def _run(seed: int, loss: str, **changed: float) -> Iterator[dict[str, Any]]:
    yield from over_seeds(_setting(loss, **changed), {"name": "lora"}, BEST[loss], seeds=(seed,))


def _setting(loss: str, **changed: Any) -> dict[str, Any]:
    return SETTING | {"data": {"loss": loss, "beta": LOSSES.get(loss), "sft": 0.0} | changed}
