"""The optimizer of a run."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from labkit.errors import LabkitError
from labkit.quant.bnb import load_bitsandbytes
from labkit.training.config import TrainingConfig


def make_optimizer(parameters: Sequence[nn.Parameter], config: TrainingConfig) -> torch.optim.Optimizer:
    """Return AdamW over ``parameters``, paged if the configuration says so.

    A paged optimizer keeps its states in memory that CUDA moves between the GPU and main memory page by
    page, as an operating system swaps: a long batch then slows a run down instead of ending it (Dettmers
    et al., 2023, QLoRA, arXiv:2305.14314, section 3).

    Raises:
        LabkitError: the configuration asks for a paged optimizer, and there is no CUDA GPU.
    """
    if config.optimizer == "adamw":
        return torch.optim.AdamW(parameters, weight_decay=config.weight_decay, fused=True)
    if parameters[0].device.type != "cuda":
        raise LabkitError(
            "A paged optimizer moves its states between a GPU and main memory; this model is on the "
            f"{parameters[0].device.type}, where there is nothing to move.",
            'Use optimizer="adamw". The operating system pages memory here by itself.',
        )
    return load_bitsandbytes().optim.PagedAdamW(parameters, weight_decay=config.weight_decay)
