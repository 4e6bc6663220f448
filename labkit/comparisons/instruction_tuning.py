"""The comparisons of instruction tuning: faults of masks, what is learned of a conversation, cures for forgetting."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from labkit.comparisons.settings import SEEDS, over_seeds
from labkit.conversations.broken import FAULTS

SETTING: dict[str, Any] = {
    "model": "smollm2-135m",
    "task": "instructions",
    "steps": 24,
    "batch_size": 8,
    "train": 192,
    "test": 120,
}
HELD_OUT = {"train": 272, "held_out": 80}  # leaves as many to train on
RATES = {"lora": (3e-4, 1e-3, 3e-3, 1e-2), "full": (3e-5, 1e-4, 3e-4)}
BEST = {"lora": 3e-3, "full": 1e-4}  # of the search `instruction-rates`
CLEAN: dict[str, Any] = {"fault": "", "words": "given", "replay": False}
# What is trained, beside LoRA without a fault: a fault, or something against forgetting.
FAULTY = tuple({"fault": fault} for fault in ("", *FAULTS))
CURES: tuple[dict[str, Any], ...] = ({}, {"replay": True}, {"words": "own"})


def instruction_rates() -> Iterator[dict[str, Any]]:
    """Learning rates for LoRA and for full fine-tuning, on held-out examples."""
    for name, rates in RATES.items():
        for rate in rates:
            yield from over_seeds(_setting(CLEAN) | HELD_OUT, {"name": name}, rate, seeds=(0,))


def instructions() -> Iterator[dict[str, Any]]:
    """Each fault with LoRA, and each cure for forgetting with LoRA and with full fine-tuning."""
    for seed in SEEDS:
        for changed in FAULTY:
            yield from over_seeds(_setting(changed), {"name": "lora"}, BEST["lora"], seeds=(seed,))
        for name in ("lora", "full"):
            for changed in CURES:
                if name == "full" or changed:  # LoRA without a cure is the first of the faultless
                    yield from over_seeds(_setting(changed), {"name": name}, BEST[name], seeds=(seed,))


def _setting(changed: dict[str, Any]) -> dict[str, Any]:
    return SETTING | {"data": CLEAN | changed}
