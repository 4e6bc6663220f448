"""The comparisons that ``labkit bench`` can make: which runs each consists of."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

SEEDS = (0, 1, 2)
MINILM = {"model": "minilm", "task": "triage", "steps": 60, "batch_size": 16, "train": 2000, "test": 600}
SMOLLM2 = {"model": "smollm2-135m", "task": "triage", "steps": 40, "batch_size": 16, "train": 1000, "test": 300}
LORA_RATE = 3e-3  # the best of `lora-rate` on minilm


def lora_rate() -> Iterator[dict]:
    """Learning rates for LoRA and for full fine-tuning."""
    for method, rates in (
        ({"name": "full"}, (1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3)),
        ({"name": "lora"}, (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2)),
    ):
        for rate in rates:
            yield from _seeds(MINILM, method, rate)


def lora_rank() -> Iterator[dict]:
    """Ranks, with the scale alpha/rank, with alpha/√rank, and with the latter made equal to the former at rank 8."""
    for rslora, alpha in ((False, 16), (True, 16), (True, 16 / math.sqrt(8))):
        for rank in (1, 4, 8, 16, 32, 64):
            yield from _seeds(MINILM, {"name": "lora", "rank": rank, "alpha": alpha, "rslora": rslora}, LORA_RATE)


def lora_alpha() -> Iterator[dict]:
    """Scales of the update at one rank."""
    for alpha in (2, 4, 8, 16, 32, 64):
        yield from _seeds(MINILM, {"name": "lora", "alpha": alpha}, LORA_RATE)


def lora_targets() -> Iterator[dict]:
    """Which layers are adapted."""
    attention = ("query", "key", "value", "attention.output.dense")
    mlp = ("intermediate.dense", *(f"encoder.layer.{i}.output.dense" for i in range(6)))
    for targets in (("query", "value"), attention, mlp, (*attention, *mlp)):
        yield from _seeds(MINILM, {"name": "lora", "target_modules": targets}, LORA_RATE)


def qlora() -> Iterator[dict]:
    """Full fine-tuning, LoRA and QLoRA on the causal model."""
    yield from _seeds(SMOLLM2, {"name": "full"}, 1e-4)
    yield from _seeds(SMOLLM2, {"name": "lora"}, 1e-3)
    yield from _seeds(SMOLLM2, {"name": "qlora"}, 1e-3)


def _seeds(setting: dict, method: dict, learning_rate: float) -> Iterator[dict]:
    for seed in SEEDS:
        yield {**setting, "method": method, "learning_rate": learning_rate, "seed": seed}


SWEEPS: dict[str, Callable[[], Iterator[dict]]] = {
    "lora-rate": lora_rate,
    "lora-rank": lora_rank,
    "lora-alpha": lora_alpha,
    "lora-targets": lora_targets,
    "qlora": qlora,
}
