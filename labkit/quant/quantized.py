"""A tensor stored in 4-bit codes, and the way back to floats."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
from torch.nn import functional as F

from labkit.quant.codebooks import dynamic_levels, levels
from labkit.quant.dynamic import SCALES_BLOCK

CHUNK = 2**17  # of four weights each: what is looked up at once stays in the processor's cache


@dataclass(frozen=True)
class Quantized:
    """A tensor in 4-bit codes.

    Attributes:
        codes: two codes a byte, the earlier in the upper half, shape (⌈numbers/2⌉,), uint8.
        absmax: the largest absolute number of each block, shape (blocks,): float32, or 8-bit codes.
        format: name of the levels, such as ``"nf4"``.
        block_size: numbers that share a scale.
        shape, dtype: the original tensor's.
        offset: mean of the absmax values, under double quantization; else None.
        scales: the scale of each 256 absmax codes, under double quantization; else None.
    """

    codes: torch.Tensor
    absmax: torch.Tensor
    format: str
    block_size: int
    shape: torch.Size
    dtype: torch.dtype
    offset: torch.Tensor | None = None
    scales: torch.Tensor | None = None

    def tensors(self) -> dict[str, torch.Tensor]:
        """Return all that is stored, by name."""
        named = {name: getattr(self, name) for name in ("codes", "absmax", "offset", "scales")}
        return {name: tensor for name, tensor in named.items() if tensor is not None}

    @property
    def nbytes(self) -> int:
        """Bytes that are stored."""
        return sum(t.numel() * t.element_size() for t in self.tensors().values())

    @property
    def bits_per_parameter(self) -> float:
        """Stored bits for each number of the original tensor."""
        return 8 * self.nbytes / self.shape.numel()

    def block_scales(self) -> torch.Tensor:
        """Return the absmax of each block in float32, shape (blocks,)."""
        if self.scales is None or self.offset is None:
            return self.absmax
        each = self.scales.repeat_interleave(SCALES_BLOCK)[: self.absmax.numel()]
        return dynamic_levels(self.absmax.device)[self.absmax.int()] * each + self.offset

    def dequantize(self, dtype: torch.dtype | None = None) -> torch.Tensor:
        """Return level × absmax for each number, in the original shape, and type unless ``dtype`` is given."""
        table = _two_bytes(self.format, self.codes.device)
        pairs = self.codes
        if missing := -pairs.numel() % (self.block_size // 2):  # a short last block
            pairs = F.pad(pairs, (0, missing))
        pairs = pairs.view(torch.int16)
        scales = self.block_scales()[:, None]
        result = self.codes.new_empty(scales.numel(), self.block_size, dtype=dtype or self.dtype)
        rows = CHUNK * 4 // self.block_size
        for start in range(0, len(result), rows):
            part = slice(start * self.block_size // 4, (start + rows) * self.block_size // 4)
            values = F.embedding(pairs[part].int() & 0xFFFF, table)
            result[start : start + rows] = values.view(-1, self.block_size).mul_(scales[start : start + rows])
        return result.view(-1)[: self.shape.numel()].view(self.shape)


@cache
def _two_bytes(name: str, device: torch.device) -> torch.Tensor:
    """Return the four levels of every pair of code bytes, shape (65536, 4), indexed by the pair read as one number."""
    number = torch.arange(65536, dtype=torch.int32).to(torch.int16)
    low, high = number.view(torch.uint8).view(-1, 2).int().unbind(1)
    return levels(name)[torch.stack([low >> 4, low & 15, high >> 4, high & 15], dim=1)].to(device)
