"""Checks of the exercises in notebook 03."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from labkit.classroom.exercises import exercise, untouched


@exercise(
    "The largest absolute number should become 127. What do you multiply all numbers by?",
    "codes = round(x · 127 / max|x|), and a code stands for code · max|x| / 127.",
    "scale = x.abs().max() / 127; return torch.round(x / scale), scale",
)
def absmax_int8(answer: Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]) -> str:
    """Check absmax quantization to 8 bits."""
    x = torch.tensor([0.5, -2.54, 1.013, 0.0])
    result = answer(x.clone())
    if untouched(result):
        return "○ absmax_int8: not attempted yet"
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
    "Each block of 64 numbers keeps one scale of 32 bits. What is the share of one number?",
    "4 bits for the code, and 32 / block_size for the scale.",
    "return 4 + 32 / block_size",
)
def bits_per_parameter(answer: Callable[[int], float]) -> str:
    """Check how many bits a 4-bit number really takes."""
    result = answer(64)
    if untouched(result):
        return "○ bits_per_parameter: not attempted yet"
    mistakes = {
        4: "That is the code alone. The scales have to be stored, too.",
        36: "One scale serves a whole block, not one number.",
        0.5: "That is the share of the scale. The code itself comes on top.",
    }
    if math.isclose(result, 4.5) and math.isclose(answer(32), 5):
        return "✓ Right: half a bit more with blocks of 64. Double quantization takes most of that half back."
    return f"✗ {mistakes.get(result) or f'For blocks of 64 you got {result} bits.'}"
