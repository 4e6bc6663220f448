"""Checks of the exercises in notebook 02."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from labkit.classroom.exercises import MistakeError, exercise, not_attempted, untouched
from labkit.classroom.experiments import judged, outcome, parts, require_same, require_seeds, trials


@exercise(
    minutes=5,
    difficulty=1,
    points=1,
    kind="compute",
    hints=(
        "A has a row for each unit of rank, as wide as the input. B has a column for each, as tall as the output.",
        "A matrix holds as many numbers as its rows times its columns. Write that down for A, then for B.",
        "Try it with 100 inputs, 30 outputs and rank 4. You should get 520.",
    ),
)
def lora_parameters(answer: Callable[[int, int, int], int]) -> str:
    """Check how many numbers LoRA trains in one layer."""
    result = answer(100, 30, 4)
    if untouched(result):
        return not_attempted("lora_parameters")
    mistakes = {
        4 * 100 * 30: "That would be rank matrices of full size. A and B are thin: count each of them.",
        100 * 30: "That is the weight W itself, which is frozen.",
        4 * 100: "That is A alone. What does B hold?",
        4 * 30: "That is B alone. What does A hold?",
        130: "Right for rank 1. How does it grow with the rank?",
    }
    if result == 520 and answer(7, 5, 1) == 12:
        return "✓ Right: rank × (inputs + outputs), where the full weight has inputs × outputs."
    return f"✗ {mistakes.get(result) or f'For 100 inputs, 30 outputs and rank 4 you got {result}.'}"


@exercise(
    minutes=10,
    difficulty=2,
    points=2,
    kind="write code",
    hints=(
        "The adapter adds s·B(Ax) to the layer's output. Which matrix, added to W, does the same?",
        "The scale s needs the rank. The function doesn't get it, but the shape of A or of B shows it.",
        "@ multiplies matrices. Only one order of the two gives the shape of W: check it with .shape.",
    ),
)
def merged_weight(answer: Callable[[torch.Tensor, torch.Tensor, torch.Tensor, float], torch.Tensor]) -> str:
    """Check the weight after a merge."""
    generator = torch.Generator().manual_seed(0)
    W, A, B = (torch.randn(shape, generator=generator) for shape in ((5, 7), (2, 7), (5, 2)))
    kept = W.clone()
    result = answer(W, A, B, 16.0)
    if untouched(result):
        return not_attempted("merged_weight")
    if not torch.equal(W, kept):
        return "✗ Your function changed W in place. Other models may share it: return a new matrix."
    right = {
        "": W + 8 * B @ A,
        "The scale is missing: alpha / rank.": W + B @ A,
        "The scale is alpha / rank, not alpha alone.": W + 16 * B @ A,
        "That is the update alone. Add it to W.": 8 * B @ A,
    }
    for mistake, value in right.items():
        if isinstance(result, torch.Tensor) and result.shape == W.shape and torch.allclose(result, value, atol=1e-5):
            return f"✗ {mistake}" if mistake else "✓ Right: one matrix, and no trace of the adapter at inference."
    shape = tuple(getattr(result, "shape", ()))
    return f"✗ For W of shape (5, 7) you returned {shape or result}. Look at the order of B and A."


@exercise(
    minutes=15,
    difficulty=2,
    points=3,
    kind="experiment",
    hints=(
        "Write a function of rank and seed: it trains with lk.LoRA(rank=…) and returns (run, lk.evaluate(…)).",
        "Choose one number of steps and one rate for all runs, and pass the same three seeds for both ranks.",
        "lk.compare wants two lists of evaluations, the small rank first. Read its interval before its verdict.",
    ),
)
def rank_experiment(answer: dict[str, Any]) -> str:
    """Check an experiment: does a small rank cost accuracy?"""
    small, large, verdict = parts(answer, "small", "large", "verdict")
    groups = {"small": trials("small", small), "large": trials("large", large)}
    ranks = {name: sorted({getattr(trial.method, "rank", 0) for trial in group}) for name, group in groups.items()}
    for name, found in ranks.items():
        if 0 in found:
            raise MistakeError(f"{name}: hand in the runs themselves, made with lk.LoRA. The check reads their rank.")
        if len(found) > 1:
            raise MistakeError(
                f"{name}: the runs have several ranks, {', '.join(map(str, found))}. Keep to one a group."
            )
    (low,), (high,) = ranks.values()
    if high < 8 * low:
        raise MistakeError(f"Rank {low} against {high}: let the large one be at least eight times the small one.")
    require_seeds(groups)
    require_same(groups, "steps", "batch_size", "accumulation", "learning_rate")
    compared = judged({name: [trial.evaluation for trial in group] for name, group in groups.items()}, verdict)
    return f"✓ Well measured. {outcome(compared)} Section 5 asks the same with more runs, and a rate for each rank."
