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
GRID = (3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1)  # a half power of ten apart
SEARCHED = {
    "full": GRID[:4],
    **dict.fromkeys(("LoRA r=4", "LoRA r=16", "DoRA r=16", "QLoRA r=16"), GRID[2:7]),
    "LoRA r=64": GRID[1:7],
    **dict.fromkeys(("Houlsby", "Pfeiffer"), GRID[2:8]),
    **dict.fromkeys(("IA3", "prefix", "prefix, random", "prompt", "prompt, random", "head"), GRID[3:]),
}
# On the larger model: around the encoder's best rate, and further where the best was at an end.
SEARCHED_SMOLLM2 = {
    "full": GRID[:3],
    "LoRA r=4": GRID[2:6],
    "LoRA r=16": GRID[1:4],
    "LoRA r=64": GRID[:4],
    "DoRA r=16": GRID[1:6],
    "QLoRA r=16": GRID[1:5],
    "Houlsby": GRID[2:6],
    "Pfeiffer": GRID[2:7],
    "IA3": GRID[4:8],
    **dict.fromkeys(("prefix", "prompt"), GRID[5:8]),
}
# The best rates of the searches `method-rates` and `method-rates-smollm2`.
RATES = {
    "minilm": {
        "full": 1e-4,
        "LoRA r=4": 3e-3,
        "LoRA r=16": 1e-3,
        "LoRA r=64": 1e-3,
        "DoRA r=16": 1e-3,
        "QLoRA r=16": 3e-3,
        "Houlsby": 3e-3,
        "Pfeiffer": 3e-2,
        "IA3": 3e-2,
        "prefix": 1e-1,
        "prompt": 1e-1,
        "head": 1e-1,
    },
    "smollm2-135m": {
        "full": 1e-4,
        "LoRA r=4": 3e-3,
        "LoRA r=16": 3e-4,
        "LoRA r=64": 3e-4,
        "DoRA r=16": 3e-3,
        "QLoRA r=16": 1e-3,
        "Houlsby": 1e-3,
        "Pfeiffer": 1e-3,
        "IA3": 3e-2,
        "prefix": 3e-2,
        "prompt": 3e-2,
    },
}
# The same for all methods.
BUDGETS = {
    ("minilm", "triage"): MINILM | {"batch_size": 8},
    ("smollm2-135m", "triage"): SMOLLM2 | {"batch_size": 8},
    ("minilm", "licenses"): MINILM | {"batch_size": 8, "task": "licenses"},
    # A license is four times as long as a finding: the larger model is tested on fewer.
    ("smollm2-135m", "licenses"): SMOLLM2 | {"batch_size": 8, "task": "licenses", "test": 150},
}


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
    for name, rates in SEARCHED.items():
        for rate in rates:
            yield from _seeds(BUDGETS["minilm", "triage"] | {"held_out": 500}, SHOWDOWN[name], rate, seeds=(0, 1))


def method_rates_smollm2() -> Iterator[dict]:
    """Learning rates on the larger model, around those that suited the encoder."""
    for name, rates in SEARCHED_SMOLLM2.items():
        for rate in rates:
            yield from _seeds(BUDGETS["smollm2-135m", "triage"] | {"held_out": 200}, SHOWDOWN[name], rate, seeds=(0,))


def methods() -> Iterator[dict]:
    """Every method at its own best rate, on two tasks, with fewer seeds on the larger model."""
    for (model, _), budget in BUDGETS.items():
        for seed in range(5) if model == "minilm" else SEEDS:
            for name, rate in RATES[model].items():
                yield from _seeds(budget, SHOWDOWN[name], rate, seeds=(seed,))


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
    "method-rates-smollm2": method_rates_smollm2,
    "methods": methods,
}
