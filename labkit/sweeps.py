"""The comparisons that ``labkit bench`` can make: which runs each consists of."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

SEEDS = (0, 1, 2)
MINILM = {"model": "minilm", "task": "triage", "steps": 60, "batch_size": 16, "train": 2000, "test": 600}
SMOLLM2 = {"model": "smollm2-135m", "task": "triage", "steps": 40, "batch_size": 16, "train": 1000, "test": 300}
LORA_RATE = 3e-3  # the best of `lora-rate` on minilm


# The methods that are compared. An update of LoRA is scaled by alpha/rank, the same for all ranks.
SHOWDOWN = {
    "full": {"name": "full"},
    "LoRA r=4": {"name": "lora", "rank": 4, "alpha": 8},
    "LoRA r=16": {"name": "lora", "rank": 16, "alpha": 32},
    "LoRA r=64": {"name": "lora", "rank": 64, "alpha": 128},
    "DoRA r=16": {"name": "lora", "rank": 16, "alpha": 32, "variant": "dora"},
    "QLoRA r=16": {"name": "qlora", "rank": 16, "alpha": 32},
    "Houlsby": {"name": "bottleneck", "placement": "houlsby"},
    "Pfeiffer": {"name": "bottleneck", "placement": "pfeiffer"},
    "IA3": {"name": "ia3"},
    "prefix": {"name": "prefix"},
    "prefix, random": {"name": "prefix", "init": "random"},
    "prompt": {"name": "prompt"},
    "prompt, random": {"name": "prompt", "init": "random"},
    "head": {"name": "head"},
}
MIDDLE, HIGH = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2), (1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1)
SEARCHED = {
    "full": (3e-5, 1e-4, 3e-4, 1e-3),
    **dict.fromkeys(("LoRA r=4", "LoRA r=16", "LoRA r=64", "DoRA r=16", "QLoRA r=16", "Houlsby", "Pfeiffer"), MIDDLE),
    **dict.fromkeys(("IA3", "prefix", "prefix, random", "prompt", "prompt, random", "head"), HIGH),
}
RATES: dict[str, dict[str, float]] = {"minilm": {}, "smollm2-135m": {}}  # the best of the searches


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


def method_rates() -> Iterator[dict]:
    """Learning rates for every method, tested on what was held out of the training examples of one task."""
    for name, method in SHOWDOWN.items():
        for rate in SEARCHED[name]:
            yield from _seeds(MINILM | {"batch_size": 8, "held_out": 500}, method, rate, seeds=(0, 1))


def methods() -> Iterator[dict]:
    """Every method at its own best rate: two models, two tasks."""
    for task in ("triage", "licenses"):
        for name, method in SHOWDOWN.items():
            if name in RATES["minilm"]:
                yield from _seeds(
                    MINILM | {"batch_size": 8, "task": task}, method, RATES["minilm"][name], seeds=range(5)
                )
    for task in ("triage", "licenses"):
        for name, method in SHOWDOWN.items():
            if name in RATES["smollm2-135m"]:
                yield from _seeds(SMOLLM2 | {"batch_size": 8, "task": task}, method, RATES["smollm2-135m"][name])


def _seeds(setting: dict, method: dict, learning_rate: float, seeds: Sequence[int] = SEEDS) -> Iterator[dict]:
    for seed in seeds:
        yield {**setting, "method": method, "learning_rate": learning_rate, "seed": seed}


SWEEPS: dict[str, Callable[[], Iterator[dict]]] = {
    "lora-rate": lora_rate,
    "lora-rank": lora_rank,
    "lora-alpha": lora_alpha,
    "lora-targets": lora_targets,
    "qlora": qlora,
    "method-rates": method_rates,
    "methods": methods,
}
