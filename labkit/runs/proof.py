"""The proof that a kept run is what training would bring: its first step, trained again, comes out the same."""

from __future__ import annotations

import math
from typing import Any

import torch

from labkit.errors import LabkitError
from labkit.process import own_random_numbers
from labkit.training.loop import Trainer

PROVEN = ("loss", "grad_norm")  # what the first step must show again
# How many of its precision's steps (``torch.finfo(…).eps``) it may be off, relatively: with other threads and on other
# processors, sums are added up and rounded in another order. From AVX512-BF16 to AVX2, nine methods on both models
# were off by up to 0.8 steps in bfloat16, whose sums are held in float32, and by 14 in float32.
STEPS_OFF = {torch.float32: 100, torch.bfloat16: 3, torch.float16: 3}


def prove(first: dict[str, Any], trainer: Trainer) -> None:
    """Train the first step; raise a ``LabkitError`` unless it comes out as in the history, but for rounding."""
    precision = trainer.model.precision
    tolerance = STEPS_OFF[precision] * torch.finfo(precision).eps
    trainer.optimizer.zero_grad(set_to_none=True)  # gradients that the caller left would be added to ours
    try:
        with own_random_numbers(trainer.model.device):
            again = trainer.step(0)
    finally:
        trainer.close()
    for key in PROVEN:
        if not math.isclose(first[key], again[key], rel_tol=tolerance):
            raise LabkitError(
                f"the {key} of its first step was {first[key]:.6g}, and is {again[key]:.6g} now.",
                "Train it again.",
            )
