"""The comparisons that ``labkit bench`` can make: which runs each consists of."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

from labkit.comparisons.data_quality import data_quality, data_quality_rates, data_quality_smollm2
from labkit.comparisons.export_measures import exports
from labkit.comparisons.instruction_tuning import instruction_rates, instructions
from labkit.comparisons.merges import merges
from labkit.comparisons.point import Point, all_settings
from labkit.comparisons.preference_learning import length_bias, preference_rates, preferences
from labkit.comparisons.reinforcement_learning import against_pairs, algorithms, hacking
from labkit.comparisons.rounding_measures import rounding
from labkit.comparisons.settings import MINILM, SMOLLM2, over_seeds
from labkit.comparisons.showdown import method_rates, method_rates_smollm2, methods
from labkit.errors import unknown

LORA_RATE = 3e-3  # the best of `lora-rate` on minilm
RANKS = (1, 4, 8, 16, 32, 64)
RANK_RATES = (3e-4, 1e-3, 3e-3, 1e-2)
# The best rates of the search `lora-rank-rates`, for alpha/rank and for alpha/√rank.
BEST_OF_RANK = {False: (3e-3,) * 6, True: (3e-3, 3e-3, 3e-3, 1e-3, 1e-3, 1e-3)}


def lora_rate() -> Iterator[dict[str, Any]]:
    """Learning rates for LoRA and for full fine-tuning."""
    for method, rates in (
        ({"name": "full"}, (1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3)),
        ({"name": "lora"}, (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2)),
    ):
        for rate in rates:
            yield from over_seeds(MINILM, method, rate)


def lora_rank_rates() -> Iterator[dict[str, Any]]:
    """Learning rates for each rank and each scale, alpha/rank and alpha/√rank, on held-out examples."""
    for rslora, rank, rate in itertools.product((False, True), RANKS, RANK_RATES):
        yield from over_seeds(MINILM | {"held_out": 500}, _lora(rank, rslora), rate, seeds=(0, 1))


def lora_rank() -> Iterator[dict[str, Any]]:
    """Ranks with each scale, at one rate for all and at the rate that suits each."""
    for rslora, rank in itertools.product((False, True), RANKS):
        for rate in sorted({LORA_RATE, BEST_OF_RANK[rslora][RANKS.index(rank)]}):
            yield from over_seeds(MINILM, _lora(rank, rslora), rate)


def _lora(rank: int, rslora: bool) -> dict[str, Any]:
    return {"name": "lora", "rank": rank, "alpha": 16, "rslora": rslora}


def lora_alpha() -> Iterator[dict[str, Any]]:
    """Scales of the update at one rank."""
    for alpha in (2, 4, 8, 16, 32, 64):
        yield from over_seeds(MINILM, {"name": "lora", "alpha": alpha}, LORA_RATE)


def lora_targets() -> Iterator[dict[str, Any]]:
    """Which layers are adapted."""
    attention = ("query", "key", "value", "attention.output.dense")
    mlp = ("intermediate.dense", *(f"encoder.layer.{i}.output.dense" for i in range(6)))
    for targets in (("query", "value"), attention, mlp, (*attention, *mlp)):
        yield from over_seeds(MINILM, {"name": "lora", "target_modules": targets}, LORA_RATE)


def qlora() -> Iterator[dict[str, Any]]:
    """Full fine-tuning, LoRA and QLoRA on the causal model."""
    for name, rate in (("full", 1e-4), ("lora", 1e-3), ("qlora", 1e-3)):
        yield from over_seeds(SMOLLM2, {"name": name}, rate)


SWEEPS: dict[str, Callable[[], Iterator[dict[str, Any]]]] = {
    "lora-rate": lora_rate,
    "lora-rank-rates": lora_rank_rates,
    "lora-rank": lora_rank,
    "lora-alpha": lora_alpha,
    "lora-targets": lora_targets,
    "qlora": qlora,
    "method-rates": method_rates,
    "method-rates-smollm2": method_rates_smollm2,
    "methods": methods,
    "data-quality-rates": data_quality_rates,
    "data-quality": data_quality,
    "data-quality-smollm2": data_quality_smollm2,
    "instruction-rates": instruction_rates,
    "instructions": instructions,
    "preference-rates": preference_rates,
    "preferences": preferences,
    "length-bias": length_bias,
    "rl-algorithms": algorithms,
    "rl-hacking": hacking,
    "rl-against-dpo": against_pairs,
    "exports": exports,
    "merges": merges,
    "rounding": rounding,
}


def points(name: str) -> list[Point]:
    """Return the runs of a sweep.

    Raises:
        LabkitError: there is no sweep of that name.
    """
    if name not in SWEEPS:
        raise unknown("sweep", name, SWEEPS)
    return [Point(**setting | {"method": all_settings(setting["method"])}) for setting in SWEEPS[name]()]
