"""Checks of the exercises in notebook 05."""

from __future__ import annotations

from collections.abc import Callable

from labkit.classroom.exercises import exercise, untouched


@exercise(
    "Add up the changes one after the other, and remember the highest sum on the way.",
    "The last sum is what is left at the end, which is not the peak.",
    "now = peak = start; for change in changes: now += change; peak = max(peak, now); return peak",
)
def peak_of(answer: Callable[[int, list[int]], int]) -> str:
    """Check the peak of a step, computed from what the allocator gave out and took back."""
    changes = [50, 30, -50, 20, -30, -20]
    result = answer(1000, list(changes))
    if untouched(result):
        return "○ peak_of: not attempted yet"
    if not isinstance(result, int | float):
        return f"✗ The peak is one number of bytes; you returned a {type(result).__name__}."
    mistakes = {
        80: "The changes are right; what was in memory before the step is missing.",
        1000: "That is what is in memory when the step has ended. When was the most in use?",
        1100: "That adds up everything ever allocated. Some was freed before the next allocation.",
        100: "That is everything ever allocated. Some was freed before the next allocation, and the start is missing.",
        1050: "That is the start and the largest allocation. Several are in use at the same time.",
        50: "That is the largest single allocation. Several are in use at the same time.",
    }
    if result == 1080:
        if answer(10, [-5, 3]) == 10:
            return "✓ Right: the highest sum on the way, and the start counts as well."
        return "✗ Almost: before the first change, `start` bytes are in use already. That may be the peak."
    return f"✗ {mistakes.get(result) or f'For 1,000 and {changes} you got {result}.'}"


@exercise(
    "Each further block adds the same amount. How much does the third add?",
    "Beyond the first two there are blocks − 2 further ones.",
    "return two + (blocks - 2) * (three - two)",
)
def extrapolate(answer: Callable[[float, float, int], float]) -> str:
    """Check the memory of a deep model, computed from that of two small ones."""
    result = answer(10.0, 13.0, 80)
    if untouched(result):
        return "○ extrapolate: not attempted yet"
    if not isinstance(result, int | float):
        return f"✗ The answer is one number, in GB; you returned a {type(result).__name__}."
    mistakes = {
        80 * 3: "The two blocks' own 10 GB are missing.",
        13 * 80 / 3: "What does not depend on the depth, such as the embedding, would be counted 80 / 3 times.",
        10 * 80 / 2: "What does not depend on the depth, such as the embedding, would be counted 40 times.",
        10 + 80 * 3: "The first two blocks are in the 10 already.",
        13 + 80 * 3: "The first three blocks are in the 13 already.",
        10 + 77 * 3: "From 2 to 80 there are 78 further blocks.",
    }
    if abs(result - 244) < 1e-6:
        if abs(answer(4.0, 9.0, 5) - 19) > 1e-6:
            return "✗ Right for 10 and 13 GB and 80 blocks, not for other numbers: use the function's arguments."
        return "✓ Right: a line through two points. That is how 80 blocks are planned from two and three."
    wrong = next((text for value, text in mistakes.items() if abs(result - value) < 1e-6), "")
    return f"✗ {wrong or f'For 10 and 13 GB and 80 blocks you got {result:.1f} GB.'}"
