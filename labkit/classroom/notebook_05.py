"""Checks of the exercises in notebook 05."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from labkit.classroom.exercises import MistakeError, exercise, not_attempted, untouched
from labkit.classroom.experiments import parts
from labkit.memory import MemoryReport

LEVERS = ("checkpointing", "accumulation", "lora")
# With accumulation, the longest batch may come before there are gradients. The prediction is of the worst order.
FAR_APART = 0.15


@exercise(
    minutes=10,
    difficulty=2,
    points=2,
    kind="write code",
    hints=(
        "Add up the changes one after the other, and remember the highest sum on the way.",
        "The last sum is what is left at the end, which is not the peak.",
        "Keep two variables in a loop: what is in use now, and the most so far. What are both before the first change?",
    ),
)
def peak_of(answer: Callable[[int, list[int]], int]) -> str:
    """Check the peak of a step, computed from what the allocator gave out and took back."""
    changes = [50, 30, -50, 20, -30, -20]
    result = answer(1000, list(changes))
    if untouched(result):
        return not_attempted("peak_of")
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
    minutes=5,
    difficulty=1,
    points=1,
    kind="compute",
    hints=(
        "Each further block adds the same amount. How much does the third add?",
        "Beyond the first two there are blocks − 2 further ones.",
        "Try it on a case that you can check: with 3 blocks, the function has to return `three`.",
    ),
)
def extrapolate(answer: Callable[[float, float, int], float]) -> str:
    """Check the memory of a deep model, computed from that of two small ones."""
    result = answer(10.0, 13.0, 80)
    if untouched(result):
        return not_attempted("extrapolate")
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


@exercise(
    minutes=15,
    difficulty=2,
    points=3,
    kind="experiment",
    hints=(
        "lk.predict_memory and lk.finetune take the same arguments. Keep them in a dictionary and pass it to both.",
        "A run's report is run.memory. Take a dictionary of common settings, and change one thing for each lever.",
        "With accumulation, batch_size × accumulation is the batch of the start. The best lever has the lowest peak.",
    ),
)
def levers(answer: dict[str, Any]) -> str:
    """Check an experiment: three levers against the memory of full fine-tuning, each predicted and then measured."""
    *pairs, best = parts(answer, "start", *LEVERS, "best")
    reports = {name: _measured(name, pair) for name, pair in zip(("start", *LEVERS), pairs, strict=True)}
    start = reports["start"]
    if start.trainable < start.parameters / 2:
        raise MistakeError("start: most of these weights are frozen. Start from full fine-tuning.")
    for name in ("checkpointing", "accumulation"):
        if reports[name].trainable != start.trainable:
            raise MistakeError(f"{name}: the method has changed, too. Pull one lever at a time.")
    if reports["lora"].trainable > start.trainable / 2:
        raise MistakeError('lora: all weights are trained here. Pass the method: lk.finetune(model, task, "lora", …).')
    for name in LEVERS:
        if reports[name].peak >= start.peak:
            raise MistakeError(
                f"{name}: its peak is no lower than the start's. Was the lever pulled, and were the texts the same?"
            )
    if best not in LEVERS:
        raise MistakeError(f"best: name one of {', '.join(LEVERS)}.")
    lowest = min(LEVERS, key=lambda name: reports[name].peak)
    if best != lowest:
        raise MistakeError(
            f"best: {best} leaves {reports[best].peak / 1e6:.0f} MB at the peak, and another lever less. "
            "Compare the peaks: it doesn't matter which kind of memory is saved."
        )
    return "✓ Well measured, and predicted before. Which two would you pull together, and what would they cost in time?"


def _measured(name: str, pair: Any) -> MemoryReport:
    """Return the measured one of a prediction and a measurement that belong together."""
    if not isinstance(pair, tuple | list) or len(pair) != 2 or not all(isinstance(each, MemoryReport) for each in pair):
        raise MistakeError(f"{name}: hand in a pair of whole reports, (lk.predict_memory(…), run.memory).")
    predicted, measured = pair
    if predicted.resident and not measured.resident:
        raise MistakeError(
            f"{name}: these two are in the other order. The prediction comes first, then the measurement."
        )
    if not measured.resident:
        raise MistakeError(
            f"{name}: the second report was predicted as well. Measure it: run.memory, after lk.finetune."
        )
    if predicted.resident:
        raise MistakeError(f"{name}: the first report was measured. Hand in what lk.predict_memory returned.")
    if abs(predicted.peak / measured.peak - 1) > FAR_APART:
        raise MistakeError(
            f"{name}: predicted {predicted.peak / 1e6:.0f} MB, measured {measured.peak / 1e6:.0f} MB. "
            "They lie too far apart to be of the same settings."
        )
    return measured
