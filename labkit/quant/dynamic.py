"""8-bit numbers in the dynamic format, in which double quantization stores the scales of 4-bit blocks."""

from __future__ import annotations

import torch

from labkit.quant.blocks import to_blocks
from labkit.quant.codebooks import dynamic_levels

SCALES_BLOCK = 256  # absmax values that share a scale of their own under double quantization


def quantize_dynamic(tensor: torch.Tensor, block_size: int = SCALES_BLOCK) -> tuple[torch.Tensor, torch.Tensor]:
    """Quantize to the 8-bit dynamic format; return the codes, shape (numbers,), and the scale of each block."""
    blocks = to_blocks(tensor, block_size)
    absmax = blocks.abs().amax(dim=1, keepdim=True)
    # A block of zeros becomes 0·∞; any code will do, as it is multiplied by 0 again.
    scaled = torch.nan_to_num(blocks * (1 / absmax), nan=-1).clamp_(-1, 1).view(-1)[: tensor.numel()]
    absmax = absmax.view(-1)
    if tensor.device.type == "cpu":
        # bitsandbytes' CPU kernel rounds to one of 65,536 numbers from −1 to 1 before it looks the level up.
        # That is not quite the nearest level for numbers within 1/65,535 of a border.
        scaled = ((scaled + 1) * 32767.5 + 0.5).int() / 32767.5 - 1
    table = dynamic_levels(tensor.device)
    return torch.bucketize(scaled, (table[1:] + table[:-1]) / 2).to(torch.uint8), absmax
