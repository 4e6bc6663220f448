"""The proof that a kept run is what training would bring: its first step, trained again, comes out the same."""

from __future__ import annotations

import math
from typing import Any

import torch

from labkit.errors import LabkitError
from labkit.process import own_random_numbers
from labkit.training.loop import Trainer

PROVEN = ("loss", "grad_norm")  # what the first step must show again
# The same where rewards are learned from: the loss is 0 there, up to rounding, whatever was drawn.
DRAWN = ("tokens", "reward", "reward_std", "entropy", "grad_norm")
ZERO = 1e-6  # rewards and gradients may well be 0, up to rounding
# How many of its precision's steps (``torch.finfo(…).eps``) it may be off, relatively: with other threads and on other
# processors, sums are added up and rounded in another order. From AVX512-BF16 to AVX2, nine methods on both models
# were off by up to 0.8 steps in bfloat16, whose sums are held in float32, and by 14 in float32.
STEPS_OFF = {torch.float32: 100, torch.bfloat16: 3, torch.float16: 3}


def prove(history: list[dict[str, Any]], trainer: Trainer) -> dict[str, Any]:
    """Train the first step that learned anything; return its record.

    Steps whose rewards failed change no weights, and random numbers depend on the step alone.

    Raises:
        LabkitError: it does not come out as in the history, but for rounding.
    """
    first = next((record for record in history if "skipped" not in record), None)
    if first is None:
        raise LabkitError("rewards failed at all of its steps.", "Train it again.")
    precision = trainer.model.precision
    tolerance = STEPS_OFF[precision] * torch.finfo(precision).eps
    trainer.optimizer.zero_grad(set_to_none=True)  # gradients that the caller left would be added to ours
    try:
        with own_random_numbers(trainer.model.device):
            again = trainer.step(first["step"] - 1)
    finally:
        trainer.close()
    if "skipped" in again:
        raise LabkitError(f"its rewards fail now ({again['skipped']}).", "Mend the reward.")
    for key in DRAWN if "reward" in again else PROVEN:
        if not math.isclose(first[key], again[key], rel_tol=tolerance, abs_tol=ZERO):
            raise LabkitError(
                f"the {key} of its first step was {first[key]:.6g}, and is {again[key]:.6g} now.",
                "Train it again.",
            )
    return again
