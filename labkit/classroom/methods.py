"""Checks of the exercises in notebooks 06 and 07."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from labkit.classroom.exercises import exercise, untouched


@exercise(
    "One adapter has two matrices and two biases. How many adapters does a block have with Houlsby?",
    "size × width numbers in each matrix, size in one bias, width in the other; two adapters a block.",
    "return blocks * 2 * (2 * size * width + size + width)",
)
def adapter_parameters(answer: Callable[[int, int, int], int]) -> str:
    """Notebook 06: how many numbers Houlsby's adapters have in a whole model."""
    result = answer(100, 8, 3)
    if untouched(result):
        return "○ adapter_parameters: not attempted yet"
    mistakes = {
        3 * 1708: "That is one adapter a block, as Pfeiffer has it. Houlsby puts a second one behind the attention.",
        2 * 1708: "That is one block. How many are there?",
        1708: "That is a single adapter. There are two in each block.",
        6 * 1600: "The two biases are missing.",
        6 * 908: "One of the two matrices is missing: an adapter squeezes and widens again.",
        6 * 800: "That is one matrix of each adapter.",
    }
    if result == 6 * 1708:
        if answer(5, 2, 1) != 54:
            return "✗ Right for these numbers, not for others: use what the function is given."
        return "✓ Right: 2·size·width + size + width an adapter, as in section 2.1 of the paper."
    return f"✗ {mistakes.get(result) or f'For width 100, size 8 and 3 blocks you got {result}.'}"


@exercise(
    "Each factor scales one output. An output is the product of x with one row of W.",
    "Row i of W and number i of b have to be multiplied by factors[i].",
    "return factors[:, None] * W, factors * b",
)
def merged_ia3(answer: Callable[[torch.Tensor, torch.Tensor, torch.Tensor], tuple]) -> str:
    """Notebook 06: weight and bias that do what W, b and IA3's factors do."""
    generator = torch.Generator().manual_seed(0)
    W, b, l = (torch.randn(shape, generator=generator) for shape in ((4, 4), (4,), (4,)))  # noqa: E741  the paper's name
    result = answer(W.clone(), b.clone(), l.clone())
    if untouched(result):
        return "○ merged_ia3: not attempted yet"
    if not isinstance(result, tuple) or len(result) != 2:
        return "✗ Return two tensors: the new weight and the new bias."
    weight, bias = result
    if untouched(weight) or untouched(bias):
        return "○ merged_ia3: not attempted yet"
    if weight.shape != W.shape or bias.shape != b.shape:
        return f"✗ W has the shape (4, 4) and b (4,); you returned {tuple(weight.shape)} and {tuple(bias.shape)}."
    if torch.allclose(weight, W * l) and not torch.allclose(weight, l[:, None] * W):
        return "✗ That scales the columns of W, and with them the inputs. IA3 scales outputs here: rows."
    if not torch.allclose(weight, l[:, None] * W):
        return "✗ The weight is not right: which part of W makes output i?"
    if torch.allclose(bias, b):
        return "✗ The weight is right. But l scales Wx + b, so the bias as well."
    if not torch.allclose(bias, l * b):
        return "✗ The weight is right, the bias is not."
    return "✓ Right: after that, IA3 costs nothing at inference."


@exercise(
    "A method is on the front unless some other one beats it.",
    "Another one beats it if it costs no more and gains more, or costs less and gains no less.",
    "all(not ((c <= cost and g > gain) or (c < cost and g >= gain)) for c, g in zip(costs, gains))",
)
def pareto_front(answer: Callable[[Sequence[float], Sequence[float]], Sequence[bool]]) -> str:
    """Notebook 07: which methods are on the Pareto front."""
    costs, gains = [1, 2, 3, 4, 2], [5, 7, 6, 9, 4]
    result = answer(list(costs), list(gains))
    if untouched(result):
        return "○ pareto_front: not attempted yet"
    found = [bool(value) for value in result]
    if len(found) != 5:
        return f"✗ For five methods return five values, True or False; you returned {len(found)}."
    if found == [True, True, False, True, False]:
        tied = [bool(value) for value in answer([1, 1, 2], [3, 3, 3])]
        if tied == [True, True, False]:
            return "✓ Right: what is left are the methods between which the choice is yours."
        if tied[-1:] == [True]:
            return "✗ Almost: a method that costs more and gains the same as another one is beaten, too."
        return "✗ Almost: two methods that cost and gain the same do not beat each other."
    if found == [False, False, True, False, True]:
        return "✗ The other way round: True is for those that no other one beats."
    return f"✗ For costs {costs} and gains {gains} you returned {found}. Look at each: does another one beat it?"


@exercise(
    "Sort the differences and leave out the lowest 2.5% and the highest 2.5%. Which values are at the ends?",
    "It is a tie where 0 lies between the two ends.",
    "low, high = np.quantile(differences, [0.025, 0.975]); return bool(low <= 0 <= high)",
)
def is_bootstrap_tie(answer: Callable[[Sequence[float]], bool]) -> str:
    """Notebook 07: whether the differences of a bootstrap say that two methods tie."""
    cases = {
        "all differences are above 0": ([0.01 + i / 1e4 for i in range(1000)], False),
        "3 of 100 are below 0": ([-0.01] * 30 + [0.02 + i / 1e5 for i in range(970)], True),
        "2 of 100 are below 0": ([-0.01] * 20 + [0.02 + i / 1e5 for i in range(980)], False),
        "all are below 0": ([-0.05 + i / 1e5 for i in range(1000)], False),
        "half are below 0": ([i / 1e3 - 0.5 for i in range(1000)], True),
    }
    results = {name: answer(list(differences)) for name, (differences, _) in cases.items()}
    if all(untouched(result) for result in results.values()):
        return "○ is_bootstrap_tie: not attempted yet"
    for name, (_, truth) in cases.items():
        if bool(results[name]) != truth:
            return f"✗ Where {name}, it is {'a tie' if truth else 'no tie'}: look at the middle 95%."
    return "✓ Right: the middle 95% of the differences decide."
