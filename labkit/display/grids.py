"""Draw what quantization does to a weight."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch

from labkit.display.alt import describe
from labkit.display.looks import looks
from labkit.display.style import PALETTE, axes_for, figure, tinted
from labkit.quant.blocks import to_blocks

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WEIGHTS = tinted(PALETTE["sky blue"])


def grids(weight: torch.Tensor, grids: Mapping[str, torch.Tensor], block_size: int | None = 64) -> list[Axes]:
    """Draw the histogram of a weight, each block divided by its absmax, with the levels of each grid over it."""
    scaled = scaled_by_block(weight, block_size)
    drawing, _ = figure(7, 1.4 * len(grids) + 0.7, rows=len(grids), sharex=True)
    for ax, (name, levels) in zip(drawing.axes, grids.items(), strict=True):
        draw_grid(ax, scaled, levels, looks(grids)[name].ink)
        ax.set_ylabel(f"{name}\nweights")
        ax.set_yticks([])
        describe(ax, said(name, levels, scaled))
    drawing.axes[-1].set_xlabel("weight / largest absolute weight of its block")
    return list(drawing.axes)


def draw_grid(ax: Axes, scaled: np.ndarray, levels: torch.Tensor, color: str) -> None:
    """Draw the histogram of scaled weights and the levels of a grid."""
    axes_for(ax).grid(visible=False)
    ax.hist(scaled, bins=121, range=(-1, 1), histtype="stepfilled", color=WEIGHTS)
    places = np.unique(levels.numpy())
    ax.vlines(places, 0, 1, transform=ax.get_xaxis_transform(), color=color, linewidth=1.5)


def said(name: str, levels: torch.Tensor, scaled: np.ndarray) -> str:
    """Return what such a drawing shows, in words."""
    places = np.unique(levels.numpy())
    inner, near = (np.abs(places) < 0.5).sum(), (np.abs(scaled) < 0.5).mean()
    return (
        f"Histogram: weight / largest absolute weight of its block, and lines at the {len(places)} levels of {name}. "
        f"Between -0.5 and 0.5 are {near:.0%} of the weights, and {inner} levels."
    )


def scaled_by_block(weight: torch.Tensor, block_size: int | None) -> np.ndarray:
    """Return each weight divided by the absmax of its block, shape (weights,)."""
    blocks = to_blocks(weight, block_size)
    scaled = blocks / blocks.abs().amax(dim=1, keepdim=True).clamp(min=1e-38)
    return scaled.view(-1)[: weight.numel()].cpu().numpy()
