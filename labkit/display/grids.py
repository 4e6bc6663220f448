"""Draw what quantization does to a weight."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch
from matplotlib import pyplot as plt

from labkit.quant.blocks import to_blocks

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def grids(weight: torch.Tensor, grids: Mapping[str, torch.Tensor], block_size: int | None = 64) -> list[Axes]:
    """Draw the histogram of a weight, each block divided by its absmax, with the levels of each grid over it."""
    scaled = scaled_by_block(weight, block_size)
    _, axes = plt.subplots(
        len(grids), 1, figsize=(7, 1.5 * len(grids) + 0.6), sharex=True, layout="constrained", squeeze=False
    )
    for ax, (name, levels) in zip(axes[:, 0], grids.items(), strict=True):
        ax.hist(scaled, bins=121, range=(-1, 1), color="0.75")
        ax.vlines(np.unique(levels.numpy()), 0, 1, transform=ax.get_xaxis_transform(), color="0.1", linewidth=1)
        ax.set_ylabel(f"{name}\nweights")
        ax.set_yticks([])
    axes[-1, 0].set_xlabel("weight / largest absolute weight of its block")
    return list(axes[:, 0])


def scaled_by_block(weight: torch.Tensor, block_size: int | None) -> np.ndarray:
    """Return each weight divided by the absmax of its block, shape (weights,)."""
    blocks = to_blocks(weight, block_size)
    scaled = blocks / blocks.abs().amax(dim=1, keepdim=True).clamp(min=1e-38)
    return scaled.view(-1)[: weight.numel()].cpu().numpy()
