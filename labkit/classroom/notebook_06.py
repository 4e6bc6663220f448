"""Checks of the exercises in notebook 06."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

from labkit.classroom.exercises import MistakeError, exercise, not_attempted, untouched
from labkit.classroom.experiments import Trial, parts, require_same, require_same_cases, require_seeds, trials


@exercise(
    minutes=10,
    difficulty=1,
    points=1,
    kind="compute",
    hints=(
        "One adapter has two matrices and two biases. How many adapters does Houlsby put into a block?",
        "The first matrix leads from width to size, the second one back. Each has a bias as long as its output.",
        "Count a single adapter of width 100 and size 8: it has 1,708 numbers. Then count the adapters.",
    ),
)
def adapter_parameters(answer: Callable[[int, int, int], int]) -> str:
    """Check how many numbers Houlsby's adapters have in a whole model."""
    result = answer(100, 8, 3)
    if untouched(result):
        return not_attempted("adapter_parameters")
    mistakes = {
        3 * 1708: "That is one adapter a block, as with Pfeiffer. Houlsby puts a second one after the attention.",
        2 * 1708: "That is one block. How many are there?",
        1708: "That is a single adapter. There are two in each block.",
        6 * 1600: "The two biases are missing.",
        6 * 908: "One of the two matrices is missing: an adapter squeezes and widens again.",
        6 * 800: "That is one matrix of each adapter.",
    }
    if result == 6 * 1708:
        if answer(5, 2, 1) != 54:
            return "✗ Right for these numbers, not for others: use the function's arguments."
        return "✓ Right: 2·size·width + size + width an adapter, as in section 2.1 of the paper."
    return f"✗ {mistakes.get(result) or f'For width 100, size 8 and 3 blocks you got {result}.'}"


@exercise(
    minutes=10,
    difficulty=2,
    points=2,
    kind="write code",
    hints=(
        "Each factor scales one output. An output is the product of x with one row of W.",
        "So what happens to row i of W, and to number i of b?",
        "factors * W multiplies along the last dimension, which are columns. Give the factors a second dimension.",
    ),
)
def merged_ia3(answer: Callable[[torch.Tensor, torch.Tensor, torch.Tensor], tuple]) -> str:
    """Check a weight and a bias that do what W, b and IA3's factors do."""
    generator = torch.Generator().manual_seed(0)
    W, b, l = (torch.randn(shape, generator=generator) for shape in ((4, 4), (4,), (4,)))  # noqa: E741  the paper's name
    result = answer(W.clone(), b.clone(), l.clone())
    if untouched(result):
        return not_attempted("merged_ia3")
    if not isinstance(result, tuple) or len(result) != 2:
        return "✗ Return two tensors: the new weight and the new bias."
    weight, bias = result
    if untouched(weight) or untouched(bias):
        return not_attempted("merged_ia3")
    if weight.shape != W.shape or bias.shape != b.shape:
        return f"✗ W has the shape (4, 4) and b (4,); you returned {tuple(weight.shape)} and {tuple(bias.shape)}."
    if torch.allclose(weight, W * l) and not torch.allclose(weight, l[:, None] * W):
        return "✗ That scales the columns of W, and with them the inputs. IA3 scales outputs here: rows."
    if not torch.allclose(weight, l[:, None] * W):
        return "✗ The weight is not right: which part of W makes output i?"
    if torch.allclose(bias, b):
        return "✗ The weight is right. But l scales Wx + b, and so the bias as well."
    if not torch.allclose(bias, l * b):
        return "✗ The weight is right, the bias is not."
    return "✓ Right: after that, IA3 costs nothing at inference."


@exercise(
    minutes=20,
    difficulty=3,
    points=4,
    kind="experiment",
    hints=(
        "hold_out(task, 200) has 200 training examples as its test set. Train and evaluate on that, for every rate.",
        "Rates are tried in equal factors, such as 3 or 10. If the best is the first or the last one, go on beyond it.",
        "Average each rate's seeds. Take the best mean, train once more at that rate, and only now evaluate on `task`.",
    ),
)
def rate_search(answer: dict[str, Any]) -> str:
    """Check a search for a learning rate: on held-out examples, wide enough, and tested once."""
    given, chosen, final = parts(answer, "trials", "rate", "test")
    tried, (test,) = trials("trials", given), trials("test", [final])
    by_rate: dict[float, list[Trial]] = {}
    for trial in tried:
        by_rate.setdefault(trial.config.learning_rate, []).append(trial)
    rates = sorted(by_rate)
    if len(rates) < 4 or rates[-1] < 29 * rates[0]:
        raise MistakeError(
            f"Rates of {', '.join(f'{rate:g}' for rate in rates)} don't span enough. Try at least four, "
            "the highest about 30 times the lowest or more."
        )
    require_seeds({f"rate {rate:g}": by_rate[rate] for rate in rates}, fewest=2)
    require_same({"trials": tried}, "steps", "batch_size", "accumulation", "schedule")
    require_same_cases([trial.evaluation for trial in tried])
    if tried[0].evaluation.total == test.evaluation.total:
        raise MistakeError(
            f"The rates were tried on {test.evaluation.total} cases, as many as the test set has. A rate chosen on the "
            "test set looks better there than it is. Choose on held-out training examples."
        )
    means = {rate: sum(each.evaluation.accuracy for each in by_rate[rate]) / len(by_rate[rate]) for rate in rates}
    best = max(rates, key=means.__getitem__)
    if best in (rates[0], rates[-1]):
        raise MistakeError(
            f"The best rate, {best:g}, is at the end of those you tried. A rate beyond may be better still."
        )
    if chosen not in means or not math.isclose(means[chosen], means[best]):
        raise MistakeError(
            "rate: another one has a better mean over its seeds. Choose by the mean, not by the best run."
        )
    require_same({"trials": tried, "test": [test]}, "steps", "batch_size", "accumulation")
    if test.config.learning_rate != chosen:
        raise MistakeError(f"test: that run has another rate, {test.config.learning_rate:g}, than the one you chose.")
    return "✓ Right: searched wide, chosen on held-out examples, and tested once. This accuracy you may report."
