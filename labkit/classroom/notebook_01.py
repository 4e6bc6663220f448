"""Checks of the exercises in notebook 01."""

from __future__ import annotations

from collections.abc import Callable

from labkit.classroom.exercises import exercise, untouched


@exercise(
    "The returned list is as long as both lists together.",
    "cross_entropy ignores every position whose target is -100.",
    "return [-100] * len(prompt_ids) + completion_ids",
)
def completion_targets(answer: Callable[[list[int], list[int]], list[int]]) -> str:
    """Check targets that make the loss look at the completion only."""
    prompt, completion = [5, 6, 7], [8, 2]
    result = answer(list(prompt), list(completion))
    if untouched(result):
        return "○ completion_targets: not attempted yet"
    result = [int(value) for value in result]
    if result == [-100, -100, -100, 8, 2]:
        if [int(v) for v in answer([1], [2, 3, 4])] == [-100, 2, 3, 4]:
            return "✓ Right: the prompt is read, the completion is learned."
        return "✗ This works for a prompt of three tokens, but not for one token. Use the lengths."
    if result == prompt + completion:
        return "✗ Here the model would learn to write the prompts as well. Mask them with -100."
    if result in ([-100, -100, 8, 2, -100], [-100, -100, 8, 2]):
        return "✗ No shift here: position i of the targets belongs to token i. The loss does the shifting."
    if len(result) != 5:
        return f"✗ For 3 prompt tokens and 2 completion tokens there are 5 targets; you returned {len(result)}."
    return f"✗ For prompt {prompt} and completion {completion} you returned {result}."


@exercise(
    "Count what memory holds for every trained weight: the weight, its gradient, and what AdamW remembers.",
    "AdamW remembers two numbers for each weight: the mean of its gradients and the mean of their squares.",
    "Four numbers of 4 bytes each for every weight.",
)
def adamw_bytes(answer: Callable[[int], float]) -> str:
    """Check the bytes that full fine-tuning in float32 needs besides the activations."""
    result = answer(1_000)
    if untouched(result):
        return "○ adamw_bytes: not attempted yet"
    mistakes: dict[float, str] = {
        4_000: "That is the weights alone. What else is as large as the weights?",
        8_000: "Weights and gradients are in. What does AdamW remember for each weight?",
        12_000: "One part is missing: AdamW keeps two numbers for each weight, not one.",
        16: "Multiply by the number of parameters.",
    }
    if result == 16_000 and answer(7) == 112:
        return "✓ Right: 16 bytes a parameter. A model of 7 billion takes 112 GB before its first activation."
    return f"✗ {mistakes.get(result) or f'For 1,000 parameters you got {result} bytes.'}"
