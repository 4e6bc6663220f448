"""8-bit (and smaller) integers: the two ways to lay an even grid over a tensor."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from labkit.quant.blocks import check_quantizable, from_blocks, to_blocks


@dataclass(frozen=True)
class EvenGrid:
    """Integers that stand for evenly spaced numbers: value = scale · (code − zero).

    Attributes:
        codes: integers, shape (blocks, block size), the last block filled up with zeros.
        scale, zero: one number for each block, shape (blocks, 1).
        shape, dtype: the original tensor's.
    """

    codes: torch.Tensor
    scale: torch.Tensor
    zero: torch.Tensor
    shape: torch.Size
    dtype: torch.dtype

    def dequantize(self) -> torch.Tensor:
        """Return the numbers that the codes stand for, in the original shape and type."""
        values = (self.codes.float() - self.zero) * self.scale
        return from_blocks(values, self.shape).to(self.dtype)


def quantize_absmax(tensor: torch.Tensor, bits: int = 8, block_size: int | None = None) -> EvenGrid:
    """Lay the grid from −max|x| to +max|x|, symmetric about zero, which stays exactly zero.

    With 8 bits: code = round(127 x / max|x|), as in LLM.int8() (Dettmers et al., 2022,
    arXiv:2208.07339, section 2). ``block_size=None`` makes one block of the whole tensor.

    Raises:
        LabkitError: bits outside 2…8, a bad block size, integers, or non-finite numbers.
    """
    blocks = to_blocks(check_quantizable(tensor, bits), block_size)
    top = 2 ** (bits - 1) - 1
    scale = blocks.abs().amax(dim=1, keepdim=True) / top
    codes = torch.round(blocks / _no_zero(scale)).clamp(-top, top).to(torch.int8)
    return EvenGrid(codes, scale, torch.zeros_like(scale), tensor.shape, tensor.dtype)


def quantize_zero_point(tensor: torch.Tensor, bits: int = 8, block_size: int | None = None) -> EvenGrid:
    """Lay the grid from min x to max x; the code that stands for zero, the zero point, is stored too.

    Uses all levels even where a tensor is lopsided (Jacob et al., 2018, arXiv:1712.05877, equation 1).
    The range is widened to contain zero, so that zero stays exact.
    """
    blocks = to_blocks(check_quantizable(tensor, bits), block_size)
    top = 2**bits - 1
    low, high = blocks.amin(dim=1, keepdim=True).clamp(max=0), blocks.amax(dim=1, keepdim=True).clamp(min=0)
    scale = high / top - low / top
    zero = torch.round(-low / _no_zero(scale))
    codes = (torch.round(blocks / _no_zero(scale)) + zero).clamp(0, top).to(torch.uint8)
    return EvenGrid(codes, scale, zero, tensor.shape, tensor.dtype)


def _no_zero(scale: torch.Tensor) -> torch.Tensor:
    return torch.where(scale == 0, 1.0, scale)  # a block of zeros has scale 0; any divisor will do
