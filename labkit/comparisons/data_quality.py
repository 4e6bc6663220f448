"""The comparisons of training data: how many examples, with how many wrong labels, copied, narrow or in mixed formats.

They put a claim to the test that a model for chats gave rise to: that a thousand good examples are enough (Zhou et al.,
2023, LIMA, arXiv:2305.11206).

Learning rate and batch size are the same for all. So is the rule for the number of updates: one pass over the data, and
no fewer than ``LEAST``. With the same updates for all, no data beyond those updates would be seen, and more data could
not help. So a larger amount also costs more compute here: what is compared is what data can teach, not what a second of
compute can.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil
from typing import Any

from labkit.comparisons.settings import MINILM, SEEDS, SMOLLM2, over_seeds

ALL = 5557  # training examples that the task has beside 600 test examples
AMOUNTS = (30, 100, 300, 1000, 3000, ALL)
NOISE = (0.0, 0.1, 0.2, 0.4, 0.6)
NOISE_OF_ALL = (0.0, 0.4, 0.6)  # the curves of less noise have reached 1,000 clean examples before
LEAST = 60
GRID = (3e-4, 1e-3, 3e-3)
RATE = 1e-3  # of the search `data-quality-rates`, over clean and noisy data: as good as 3e-3, and the lower of the two
FORMATS = ("{prompt}", "Question: {prompt} ?\nAnswer:", "### Input\n{prompt}\n### Response\n", "{prompt}\nThanks!")
PLAIN: dict[str, Any] = {
    "amount": 1000,
    "balanced": False,
    "coverage": "wide",
    "copies": 1,
    "noise": 0.0,
    "formats": ["{prompt}"],
}
# What else may be wrong with 1,000 examples, or better.
OTHERS: tuple[dict[str, Any], ...] = (
    {"copies": 3},
    {"copies": 10},
    {"coverage": "narrow"},
    {"balanced": True},
    {"formats": list(FORMATS)},
)


def data_quality_rates() -> Iterator[dict[str, Any]]:
    """Learning rates on clean and on mostly wrong labels, tested on what was held out of the training examples."""
    setting = MINILM | {"batch_size": 8, "train": ALL, "held_out": 500}
    for rate in GRID:
        for noise in (NOISE[0], NOISE[-1]):
            for seed in SEEDS[:2]:
                yield from _runs(setting, {"name": "lora"}, rate, seed, {"noise": noise})


def data_quality() -> Iterator[dict[str, Any]]:
    """Amounts by shares of wrong labels, and other faults of 1,000 examples, for LoRA on the encoder."""
    method, setting = {"name": "lora"}, MINILM | {"batch_size": 8, "train": ALL}
    for seed in SEEDS:
        for amount in AMOUNTS[:-1]:
            for noise in NOISE:
                yield from _runs(setting, method, RATE, seed, {"amount": amount, "noise": noise})
        for other in OTHERS:
            yield from _runs(setting, method, RATE, seed, other)
    for seed in SEEDS:  # a minute each
        for noise in NOISE_OF_ALL:
            yield from _runs(setting, method, RATE, seed, {"amount": ALL, "noise": noise})


def data_quality_smollm2() -> Iterator[dict[str, Any]]:
    """A few points of the same on the causal model, where a step takes longer: two amounts, the larger one noisy."""
    setting = SMOLLM2 | {"batch_size": 8, "train": 1000, "test": 150}
    for seed in SEEDS:
        for amount, noise in ((100, 0.0), (400, 0.4), (400, 0.0)):
            yield from _runs(setting, {"name": "lora"}, RATE, seed, {"amount": amount, "noise": noise}, least=40)


def _runs(
    setting: dict[str, Any],
    method: dict[str, Any],
    rate: float,
    seed: int,
    changed: dict[str, Any],
    least: int = LEAST,
) -> Iterator[dict[str, Any]]:
    data = PLAIN | changed
    steps = max(least, ceil(data["amount"] / setting["batch_size"]))
    yield from over_seeds(setting | {"steps": steps, "data": data}, method, rate, seeds=(seed,))
