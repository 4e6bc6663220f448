"""The comparison of all methods: their settings, the learning rates that were searched and chosen, and the budgets."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from labkit.comparisons.settings import MINILM, SEEDS, SMOLLM2, over_seeds

# The methods that are compared. An update of LoRA is scaled by alpha/rank, the same for all ranks.
SHOWDOWN: dict[str, dict[str, Any]] = {
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
SEARCHED: dict[str, tuple[float, ...]] = {
    "full": GRID[:4],
    **dict.fromkeys(("LoRA r=4", "LoRA r=16", "DoRA r=16", "QLoRA r=16"), GRID[2:7]),
    "LoRA r=64": GRID[1:7],
    **dict.fromkeys(("Houlsby", "Pfeiffer"), GRID[2:8]),
    **dict.fromkeys(("IA3", "prefix", "prefix, random", "prompt", "prompt, random", "head"), GRID[3:]),
}
# On the larger model: around the encoder's best rate, and further if the best was at the end of the range.
SEARCHED_SMOLLM2: dict[str, tuple[float, ...]] = {
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


def method_rates() -> Iterator[dict[str, Any]]:
    """Learning rates for every method, tested on what was held out of the training examples of one task."""
    for name, rates in SEARCHED.items():
        for rate in rates:
            yield from over_seeds(BUDGETS["minilm", "triage"] | {"held_out": 500}, SHOWDOWN[name], rate, seeds=(0, 1))


def method_rates_smollm2() -> Iterator[dict[str, Any]]:
    """Learning rates on the larger model, around those that suited the encoder."""
    for name, rates in SEARCHED_SMOLLM2.items():
        for rate in rates:
            yield from over_seeds(
                BUDGETS["smollm2-135m", "triage"] | {"held_out": 200}, SHOWDOWN[name], rate, seeds=(0,)
            )


def methods() -> Iterator[dict[str, Any]]:
    """Every method at its own best rate, on two tasks, with fewer seeds on the larger model."""
    for (model, _), budget in BUDGETS.items():
        for seed in SEEDS if model == "minilm" else SEEDS[:3]:
            for name, rate in RATES[model].items():
                yield from over_seeds(budget, SHOWDOWN[name], rate, seeds=(seed,))
