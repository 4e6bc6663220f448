"""Checks of the exercises in notebook 02."""

from __future__ import annotations

from collections.abc import Callable

import torch

from labkit.classroom.exercises import exercise, untouched


@exercise(
    "A has a row for each unit of rank, as wide as the input. B has a column for each, as tall as the output.",
    "Add the numbers in A, rank × inputs, and in B, outputs × rank.",
    "return rank * (inputs + outputs)",
)
def lora_parameters(answer: Callable[[int, int, int], int]) -> str:
    """Check how many numbers LoRA trains in one layer."""
    result = answer(100, 30, 4)
    if untouched(result):
        return "○ lora_parameters: not attempted yet"
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
    "The adapter adds s·B(Ax) to the layer's output. Which matrix, added to W, does the same?",
    "W + s·BA, with s = alpha / rank. The rank is the number of rows of A.",
    "return W + alpha / A.shape[0] * (B @ A)",
)
def merged_weight(answer: Callable[[torch.Tensor, torch.Tensor, torch.Tensor, float], torch.Tensor]) -> str:
    """Check the weight after a merge."""
    generator = torch.Generator().manual_seed(0)
    W, A, B = (torch.randn(shape, generator=generator) for shape in ((5, 7), (2, 7), (5, 2)))
    kept = W.clone()
    result = answer(W, A, B, 16.0)
    if untouched(result):
        return "○ merged_weight: not attempted yet"
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
