"""4-bit numbers in blocks: each block has its own scale, and the scales can be quantized once more."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch

from labkit.errors import unknown
from labkit.quant.blocks import check_block_size, check_quantizable, to_blocks
from labkit.quant.codebooks import LEVELS, dynamic_levels, levels

SMALLEST = 1e-38  # stands in for the scale of a block of zeros, since 0 can't be divided by
SCALES_BLOCK = 256  # absmax values that share a scale of their own under double quantization
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
        if self.scales is None:
            return self.absmax
        each = self.scales.repeat_interleave(SCALES_BLOCK)[: self.absmax.numel()]
        return dynamic_levels(self.absmax.device)[self.absmax.int()] * each + self.offset

    def dequantize(self, dtype: torch.dtype | None = None) -> torch.Tensor:
        """Return level × absmax for each number, in the original shape, and type unless ``dtype`` is given."""
        table = _two_bytes(self.format, self.codes.device)
        pairs = self.codes
        if missing := -pairs.numel() % (self.block_size // 2):  # a short last block
            pairs = torch.nn.functional.pad(pairs, (0, missing))
        pairs = pairs.view(torch.int16)
        scales = self.block_scales()[:, None]
        result = self.codes.new_empty(scales.numel(), self.block_size, dtype=dtype or self.dtype)
        rows = CHUNK * 4 // self.block_size
        for start in range(0, len(result), rows):
            part = slice(start * self.block_size // 4, (start + rows) * self.block_size // 4)
            values = torch.nn.functional.embedding(pairs[part].int() & 0xFFFF, table)
            result[start : start + rows] = values.view(-1, self.block_size).mul_(scales[start : start + rows])
        return result.view(-1)[: self.shape.numel()].view(self.shape)


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
    scaled = torch.nn.functional.pad(scaled, (0, scaled.numel() % 2))  # a byte holds two
    # Counting the borders that lie below a number finds its level; 15 passes of plain comparison are
    # several times as fast as a binary search for each number.
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


def quantize_dynamic(tensor: torch.Tensor, block_size: int = SCALES_BLOCK) -> tuple[torch.Tensor, torch.Tensor]:
    """Quantize to the 8-bit dynamic format; return the codes, shape (numbers,), and the scale of each block."""
    blocks = to_blocks(tensor, block_size)
    absmax = blocks.abs().amax(dim=1, keepdim=True)
    # A block of zeros becomes 0·∞; any code will do, as it is multiplied by 0 again.
    scaled = torch.nan_to_num(blocks * (1 / absmax), nan=-1).clamp_(-1, 1).view(-1)[: tensor.numel()]
    absmax = absmax.view(-1)
    if tensor.device.type == "cpu":
        # bitsandbytes' CPU kernel rounds to one of 65,536 numbers from −1 to 1 before it looks the level up.
        # That is not quite the nearest level for numbers that lie within 1/65,535 of a border.
        scaled = ((scaled + 1) * 32767.5 + 0.5).int() / 32767.5 - 1
    levels = dynamic_levels(tensor.device)
    return torch.bucketize(scaled, (levels[1:] + levels[:-1]) / 2).to(torch.uint8), absmax


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


@cache
def _two_bytes(name: str, device: torch.device) -> torch.Tensor:
    """Return the four levels of any two bytes of codes, shape (65536, 4), indexed by them as one number."""
    number = torch.arange(65536, dtype=torch.int32).to(torch.int16)
    low, high = number.view(torch.uint8).view(-1, 2).int().unbind(1)
    return levels(name)[torch.stack([low >> 4, low & 15, high >> 4, high & 15], dim=1)].to(device)
