"""Checks of the exercises in notebook 06."""

from __future__ import annotations

from collections.abc import Callable

import torch

from labkit.classroom.exercises import exercise, untouched


@exercise(
    "One adapter has two matrices and two biases. How many adapters does Houlsby put into a block?",
    "size × width numbers in each matrix, size in one bias, width in the other; two adapters a block.",
    "return blocks * 2 * (2 * size * width + size + width)",
)
def adapter_parameters(answer: Callable[[int, int, int], int]) -> str:
    """Check how many numbers Houlsby's adapters have in a whole model."""
    result = answer(100, 8, 3)
    if untouched(result):
        return "○ adapter_parameters: not attempted yet"
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
    "Each factor scales one output. An output is the product of x with one row of W.",
    "Multiply row i of W and number i of b by factors[i].",
    "return factors[:, None] * W, factors * b",
)
def merged_ia3(answer: Callable[[torch.Tensor, torch.Tensor, torch.Tensor], tuple]) -> str:
    """Check a weight and a bias that do what W, b and IA3's factors do."""
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
        return "✗ The weight is right. But l scales Wx + b, and so the bias as well."
    if not torch.allclose(bias, l * b):
        return "✗ The weight is right, the bias is not."
    return "✓ Right: after that, IA3 costs nothing at inference."
