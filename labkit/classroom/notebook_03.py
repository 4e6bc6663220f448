"""Checks of the exercises in notebook 03."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch

from labkit.classroom.exercises import MistakeError, exercise, not_attempted, untouched
from labkit.classroom.experiments import parts
from labkit.quant.blockwise import quantize
from labkit.quant.error import relative_error


@exercise(
    minutes=10,
    difficulty=2,
    points=2,
    kind="write code",
    hints=(
        "The largest absolute number should become 127. What do you multiply all numbers by?",
        "The scale is how much one step of the grid is worth. How many steps lie between 0 and the largest number?",
        "Divide by the scale, then round with torch.round. Codes times scale should come close to x again.",
    ),
)
def absmax_int8(answer: Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]) -> str:
    """Check absmax quantization to 8 bits."""
    x = torch.tensor([0.5, -2.54, 1.013, 0.0])
    result = answer(x.clone())
    if untouched(result):
        return not_attempted("absmax_int8")
    if not isinstance(result, tuple | list) or len(result) != 2:
        return "✗ Return two things: the codes and the scale."
    codes, scale = torch.as_tensor(result[0]).float(), float(result[1])
    if torch.allclose(codes, torch.tensor([25.0, -127.0, 51.0, 0.0])) and math.isclose(scale, 0.02, rel_tol=1e-4):
        return "✓ Right: 127 steps on each side of zero, and zero stays zero."
    if codes.abs().max() == 128:
        return "✗ int8 ranges from −128 to 127. Use 127, so that the grid is the same on both sides."
    if not torch.equal(codes, codes.round()):
        return "✗ Codes are whole numbers: round them."
    if torch.allclose(codes * scale, torch.round(x / scale) * scale):
        return f"✗ This grid does not end exactly at the largest number: its scale is {scale:.4f}."
    return "✗ codes · scale should come close to x. For [0.5, −2.54, 1.013, 0] it gives " + str(
        (codes * scale).tolist()
    )


@exercise(
    minutes=5,
    difficulty=1,
    points=1,
    kind="compute",
    hints=(
        "Each block of 64 numbers keeps one scale of 32 bits. What is the share of one number?",
        "A parameter has its own code, and its share of what all numbers of its block have in common.",
    ),
)
def bits_per_parameter(answer: Callable[[int], float]) -> str:
    """Check how many bits a 4-bit number really takes."""
    result = answer(64)
    if untouched(result):
        return not_attempted("bits_per_parameter")
    mistakes = {
        4: "That is the code alone. The scales have to be stored, too.",
        36: "One scale serves a whole block, not one number.",
        0.5: "That is the share of the scale. The code itself comes on top.",
    }
    if math.isclose(result, 4.5) and math.isclose(answer(32), 5):
        return "✓ Right: half a bit more with blocks of 64. Double quantization takes most of that half back."
    return f"✗ {mistakes.get(result) or f'For blocks of 64 you got {result} bits.'}"


@exercise(
    minutes=15,
    difficulty=2,
    points=3,
    kind="experiment",
    hints=(
        "Section 3 has a function that measures an error. Use it on your layer in a loop over block sizes.",
        "Divide all your errors by that of blocks of 64. Which of them stay at 1.1 or below?",
        "Large blocks cost fewer bits. So among the sizes that stay within the limit, look for one end of the list.",
    ),
)
def block_sizes(answer: dict[str, Any]) -> str:
    """Check a measurement: NF4's error by block size on a layer, and the cheapest size that is exact enough."""
    weight, errors, chosen = parts(answer, "weight", "errors", "chosen")
    if not isinstance(weight, torch.Tensor):
        raise MistakeError("weight: hand in the layer's weight, a tensor, so that the check can measure again.")
    if not isinstance(errors, Mapping) or not all(isinstance(size, int) for size in errors):
        raise MistakeError("errors: hand in a dictionary from block size to relative error, such as {64: …, 128: …}.")
    sizes = sorted(errors)
    if len(sizes) < 4 or sizes[-1] < 16 * sizes[0] or 64 not in errors:
        raise MistakeError(
            f"errors: {', '.join(map(str, sizes))} don't span enough. Measure at least four sizes, 64 among them, "
            "the largest at least 16 times the smallest."
        )
    true = {size: relative_error(weight, quantize(weight, "nf4", size).dequantize()) for size in sizes}
    for size in sizes:
        if not math.isclose(errors[size], true[size], rel_tol=0.01):
            raise MistakeError(_other_error(weight, size, float(errors[size]), true[size]))
    within = [size for size in sizes if true[size] <= 1.1 * true[64]]
    if chosen == min(sizes, key=true.__getitem__) != max(within):
        raise MistakeError(
            "chosen: that has the smallest error, and costs the most bits. Which may be a bit less exact?"
        )
    if chosen not in within:
        raise MistakeError(f"chosen: blocks of {chosen} are not among your sizes whose error is within the limit.")
    if chosen != max(within):
        raise MistakeError(
            f"chosen: blocks of {chosen} are within the limit, but a larger size is, too, with fewer bits."
        )
    return (
        "✓ Well measured: fewer bits for an error that you chose to bear. What the model says to it, section 5 shows."
    )


def _other_error(weight: torch.Tensor, size: int, given: float, true: float) -> str:
    """Say what else a measured error may be."""
    if math.isclose(given, 100 * true, rel_tol=0.01):
        return "errors: these are percentages. Hand in fractions, as lk.relative_error returns them."
    for name in ("int4", "fp4"):
        if math.isclose(given, relative_error(weight, quantize(weight, name, size).dequantize()), rel_tol=0.01):
            return f"errors: these are {name}'s. The question is about NF4."
    difference = quantize(weight, "nf4", size).dequantize() - weight
    if any(math.isclose(given, float(each), rel_tol=0.01) for each in (difference.norm(), difference.abs().mean())):
        return "errors: these are differences. Relate them to the weight, as lk.relative_error does."
    return f"errors: at blocks of {size}, the check measures {true:.4f} on this weight; you have {given:.4f}."
