"""Quantize to 4 bits in blocks: each block has its own scale, and the scales can be quantized once more."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from labkit.errors import unknown
from labkit.quant.blocks import check_block_size, check_quantizable
from labkit.quant.codebooks import LEVELS, levels
from labkit.quant.dynamic import SCALES_BLOCK, quantize_dynamic
from labkit.quant.quantized import Quantized

SMALLEST = 1e-38  # stands in for the scale of a block of zeros, since 0 can't be divided by


def quantize(tensor: torch.Tensor, format: str = "nf4", block_size: int = 64, double: bool = False) -> Quantized:
    """Quantize to 4 bits (Dettmers et al., 2023, QLoRA, arXiv:2305.14314, section 3).

    Each block is divided by its largest absolute number and rounded to the nearest level. Codes and
    scales equal those of bitsandbytes on a CPU bit for bit.

    Args:
        tensor: floats of any shape, finite.
        format: ``"nf4"``, ``"fp4"`` or ``"int4"``.
        block_size: a power of two from 32 to 4096. Smaller blocks are more exact and cost more scales.
        double: store the scales in 8 bits, too: 0.127 bits a number instead of 0.5 with blocks of 64.

    Raises:
        LabkitError: unknown format, bad block size, integers, or non-finite numbers.
    """
    block_size = check_block_size(block_size)
    if tensor.is_meta:
        return _shapes(tensor, format, block_size, double)
    order = levels(format).to(tensor.device).argsort(stable=True)
    sorted_levels = levels(format).to(tensor.device)[order]
    scaled, absmax = _normalize(check_quantizable(tensor), block_size)
    between = (sorted_levels[1:] + sorted_levels[:-1]) / 2
    scaled = F.pad(scaled, (0, scaled.numel() % 2))  # a byte holds two
    # Counting the borders below a number finds its level; 15 passes of plain comparison are several times
    # as fast as a binary search for each number.
    codes = torch.zeros(scaled.shape, dtype=torch.uint8, device=tensor.device)
    for border in between:
        codes += scaled > border
    if not torch.equal(order, torch.arange(16, device=order.device)):
        codes = order.to(torch.uint8)[codes.int()]
    packed = codes[::2] << 4 | codes[1::2]
    if not double:
        return Quantized(packed, absmax, format, block_size, tensor.shape, tensor.dtype)
    offset = absmax.mean()
    small, scales = quantize_dynamic(absmax - offset)
    return Quantized(packed, small, format, block_size, tensor.shape, tensor.dtype, offset, scales)


def _shapes(tensor: torch.Tensor, format: str, block_size: int, double: bool) -> Quantized:
    """Return what a tensor without numbers would become."""
    if format not in LEVELS:
        raise unknown("4-bit format", str(format), LEVELS)
    count = tensor.numel()
    blocks = -(-count // block_size)
    kind, extra = torch.float32, {}
    if double:
        kind = torch.uint8
        extra = {"offset": tensor.new_empty((), dtype=torch.float32)}
        extra["scales"] = tensor.new_empty(-(-blocks // SCALES_BLOCK), dtype=torch.float32)
    codes = tensor.new_empty(-(-count // 2), dtype=torch.uint8)
    absmax = tensor.new_empty(blocks, dtype=kind)
    return Quantized(codes, absmax, format, block_size, tensor.shape, tensor.dtype, **extra)


def _normalize(tensor: torch.Tensor, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return each number divided by its block's absmax, shape (numbers,), and the absmax of each block."""
    flat = tensor.detach().reshape(-1).float()
    whole = flat.numel() // size * size
    blocks = flat[:whole].view(-1, size)
    absmax = blocks.abs().amax(dim=1)
    scaled = (blocks * (1 / absmax.clamp(min=SMALLEST))[:, None]).view(-1)
    if whole == flat.numel():
        return scaled.clamp_(-1, 1), absmax
    # bitsandbytes divides a short last block, but multiplies others by the reciprocal, which differs in the
    # last bit. For a short block of zeros it stores the stand-in.
    last = flat[whole:].abs().amax().clamp(min=SMALLEST)
    return torch.cat([scaled, flat[whole:] / last]).clamp_(-1, 1), torch.cat([absmax, last[None]])
