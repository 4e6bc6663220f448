"""The comparisons of preference learning: losses on the same pairs, values of beta, likelihood, and length."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from labkit.comparisons.settings import SEEDS, over_seeds
from labkit.training.preference import LOSSES

if TYPE_CHECKING:
    from pandas import DataFrame

SETTING: dict[str, Any] = {
    "model": "smollm2-135m",
    "task": "preferences",
    "steps": 32,
    "batch_size": 8,
    "train": 256,
    "test": 120,
}
HELD_OUT = {"train": 336, "held_out": 80}  # leaves as many to train on
RATES = (3e-4, 1e-3)
NAMES = ("sft", *LOSSES)
BEST = dict.fromkeys(NAMES, 3e-4) | {"dpo_norm": 1e-3, "kto": 1e-3}  # by `best_rates`
MOST_LOST = 0.5  # nats a token that the loss on general conversations may rise
BETAS = (0.01, 0.1, 1.0)  # of DPO
SFT = 1.0  # the weight of supervised fine-tuning beside DPO
SHORT = {"steps": 16}  # one pass: half of the pairs have the longer reply chosen
FEW = SEEDS[:3]  # a run takes three minutes of one core


def preference_rates() -> Iterator[dict[str, Any]]:
    """Learning rates for each loss, on held-out pairs."""
    for loss in NAMES:
        for rate in RATES:
            yield from over_seeds(_setting(loss) | HELD_OUT, {"name": "lora"}, rate, seeds=(0,))


def best_rates(rows: DataFrame) -> dict[str, float]:
    """Return the best rate of each loss in the search's rows.

    It is the one with the most held-out pairs right, of those after which the loss on general conversations has risen
    by no more than ``MOST_LOST``; of equally good ones, the lower. By the pairs alone, a rate could win that breaks
    the model.
    """
    kept = rows[rows["chat_rise"] <= MOST_LOST].sort_values(["correct", "learning_rate"], ascending=[False, True])
    return {str(loss): float(tried["learning_rate"].iloc[0]) for loss, tried in kept.groupby("data.loss", sort=False)}


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
            yield from over_seeds(_setting("dpo", pairs=pairs) | SHORT, {"name": "lora"}, BEST["dpo"], seeds=(seed,))


def _run(seed: int, loss: str, **changed: float) -> Iterator[dict[str, Any]]:
    yield from over_seeds(_setting(loss, **changed), {"name": "lora"}, BEST[loss], seeds=(seed,))


def _setting(loss: str, **changed: Any) -> dict[str, Any]:
    return SETTING | {"data": {"loss": loss, "beta": LOSSES.get(loss), "sft": 0.0} | changed}
