"""A tensor as blocks: rows of equal length, and the check that it can be quantized."""

from __future__ import annotations

from numbers import Integral

import torch
from torch.nn import functional as F

from labkit.errors import LabkitError, require_count, shown


def to_blocks(tensor: torch.Tensor, block_size: int | None) -> torch.Tensor:
    """Return the numbers in float32, shape (blocks, block size); a short last block is filled up with zeros."""
    flat = tensor.detach().reshape(-1).float()
    size = flat.numel() if block_size is None else require_count("block_size", block_size, remedy="Try 64.")
    return F.pad(flat, (0, -flat.numel() % size)).view(-1, size)


def from_blocks(blocks: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    """Undo ``to_blocks``."""
    return blocks.reshape(-1)[: shape.numel()].view(shape)


def check_block_size(size: int) -> int:
    """Return ``size`` as an int, or raise a ``LabkitError`` unless it is a power of two from 32 to 4096."""
    if isinstance(size, Integral) and size in (32, 64, 128, 256, 512, 1024, 2048, 4096):
        return int(size)
    raise LabkitError(f"block_size must be a power of two from 32 to 4096, not {shown(size)}.", "The usual one is 64.")


def check_quantizable(tensor: torch.Tensor, bits: int = 8) -> torch.Tensor:
    """Return ``tensor``, or raise a ``LabkitError`` if it cannot be quantized."""
    require_count("bits", bits, low=2, high=8, remedy="Try 8 or 4.")
    if not tensor.is_floating_point():
        raise LabkitError(
            f"Only floating-point tensors can be quantized; this one is {tensor.dtype}.",
            "It may be quantized already. Convert counts with .float() if you mean it.",
        )
    if not tensor.numel():
        raise LabkitError("This tensor is empty.", "Pass one with at least one number.")
    finite = torch.isfinite(tensor.float())  # what overflows float32 cannot be quantized either
    if not finite.all():
        bad = int((~finite).sum())
        raise LabkitError(
            f"{bad} of the tensor's {tensor.numel()} numbers are infinite or not a number.",
            "One of them would spoil its whole block. Check where the weights come from: training may have diverged.",
        )
    return tensor
