"""The state of a run as tensors by name: the trained weights, and AdamW's states for each of them."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn
from torch.optim import Optimizer

Parameters = Mapping[str, nn.Parameter]  # by name
STATES = ("step", "exp_avg", "exp_avg_sq")  # AdamW's, for each trained weight


def tensors_of(parameters: Parameters, optimizer: Optimizer) -> dict[str, torch.Tensor]:
    """Return weights and optimizer states by name, such as ``weight.head.bias`` and ``exp_avg.head.bias``."""
    tensors = {f"weight.{name}": p.detach().contiguous() for name, p in parameters.items()}
    for name, parameter in parameters.items():
        for key in STATES:
            if key in (state := optimizer.state.get(parameter, {})):
                tensors[f"{key}.{name}"] = state[key].contiguous()
    return tensors


def find_mismatch(tensors: Mapping[str, torch.Tensor], parameters: Parameters) -> str | None:
    """Return the first parameter whose weight is missing or has another shape, or whose states are incomplete."""
    for name, parameter in parameters.items():
        states = [f"{key}.{name}" for key in STATES if f"{key}.{name}" in tensors]
        shapes = [tensors[key].shape for key in (f"weight.{name}", *states[1:]) if key in tensors]
        if shapes != [parameter.shape] * (1 + max(0, len(states) - 1)) or len(states) not in (0, len(STATES)):
            return name
    return None


def restore(tensors: Mapping[str, torch.Tensor], parameters: Parameters, optimizer: Optimizer) -> None:
    """Put the tensors back into the weights and the optimizer."""
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(tensors[f"weight.{name}"])
            state = {key: tensors[f"{key}.{name}"] for key in STATES if f"{key}.{name}" in tensors}
            optimizer.state[parameter] = {key: value.to(parameter.device) for key, value in state.items()}
