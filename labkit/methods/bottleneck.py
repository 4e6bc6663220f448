"""A bottleneck: a small network between the layers of a frozen one. ``bottleneck_adapters`` puts it there."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import nn

from labkit.errors import LabkitError
from labkit.methods.adapter import Adapter

ACTIVATIONS = {"relu": nn.ReLU, "gelu": nn.GELU, "silu": nn.SiLU}


class Bottleneck(nn.Module):
    """f(x) = s·(U σ(Dx + d) + u) (Houlsby et al., 2019, arXiv:1902.00751, section 2.1), without the skip connection.

    D (size, width) squeezes, U (width, size) widens again: 2·size·width + size + width numbers. U and u start at
    zero, so f does. The paper starts with small random numbers instead, which is nearly the same.
    Input and output (…, width).
    """

    def __init__(self, width: int, size: int, activation: str, scale: float = 1.0, device: torch.device | None = None):
        super().__init__()
        self.scale = scale
        self.down = nn.Linear(width, size, device=device)
        self.activation = ACTIVATIONS[activation]()
        self.up = nn.Linear(size, width, device=device)
        nn.init.kaiming_uniform_(self.down.weight, a=math.sqrt(5))
        for zero in (self.down.bias, self.up.weight, self.up.bias):
            nn.init.zeros_(zero)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return what is to be added to the residual stream, in the type of x."""
        return through(x, self.down, self.activation, self.up, self.scale)


def through(x: torch.Tensor, down: nn.Module, activation: nn.Module, up: nn.Module, scale: float) -> torch.Tensor:
    """Return s·U σ(Dx), biases included, in the type of x, whatever that of the weights is."""
    inner = x if torch.is_autocast_enabled(x.device.type) else x.to(down.weight.dtype)
    return (up(activation(down(inner))) * scale).to(x.dtype)


def adapted(
    base: nn.Module, f: Callable, parallel: bool, inputs: tuple[torch.Tensor, ...], named: dict
) -> torch.Tensor:
    """Return a layer's output with that of an adapter.

    In sequence, the adapter reads the layer's output h: h + f(h). In parallel (He et al., 2022, arXiv:2110.04366,
    section 3.3), it reads the MLP's input x, which is the layer's last: MLP(x) + f(x). BERT's last layer gets the
    residual stream x beside its input and adds the two itself; there, x + f(x) in place of x has the same effect.
    ``named`` are the layer's inputs that have names, where it has any.
    """
    if not parallel:
        h = base(*inputs, **named)
        if not isinstance(h, torch.Tensor):
            raise LabkitError(
                f"A {type(base).__name__} returns several things, so no adapter can follow it.",
                "Name a module in target_modules that returns one tensor, such as a linear layer.",
            )
        return h + f(h)
    *others, x = inputs
    return base(*others, x + f(x)) if others else base(x) + f(x)


class BottleneckLayer(Adapter):
    """A layer with a ``Bottleneck`` after it or beside it."""

    def __init__(self, base: nn.Module, bottleneck: Bottleneck, parallel: bool):
        super().__init__()
        self.base, self.bottleneck, self.parallel = base.requires_grad_(False), bottleneck, parallel
        self.train(base.training)

    def forward(self, *inputs: torch.Tensor, **named) -> torch.Tensor:
        """Return the adapted output; inputs and output are the layer's own."""
        return adapted(self.base, self.bottleneck, self.parallel, inputs, named)

    def factors(self) -> dict[str, torch.Tensor]:
        """Return the weights under their names in ``labkit.contrib.peft_bottleneck``."""
        return {f"bottleneck_{name}": value for name, value in self.bottleneck.state_dict().items()}

    def set_factors(self, factors: dict[str, torch.Tensor]) -> None:
        """Set the values that ``factors`` returned."""
        self.bottleneck.load_state_dict({name.removeprefix("bottleneck_"): value for name, value in factors.items()})
