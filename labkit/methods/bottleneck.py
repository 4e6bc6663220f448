"""Bottleneck adapters: small trained networks between the layers of a frozen one."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import nn

from labkit.errors import LabkitError, require_count, require_number, set_checked, unknown
from labkit.methods.adapter import Adapter, LayerMethod
from labkit.methods.method import register
from labkit.methods.targets import as_list, called, insertion_points, matching, require_names, width_of
from labkit.models.model import Model
from labkit.quant.matrix import is_linear, sides

PLACEMENTS = ("houlsby", "pfeiffer", "parallel")
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
        """Return what is added to the residual stream, in the type of x."""
        return through(x, self.down, self.activation, self.up, self.scale)


def through(x: torch.Tensor, down: nn.Linear, activation: nn.Module, up: nn.Linear, scale: float) -> torch.Tensor:
    """Return s·U σ(Dx), biases included, in the type of x, whatever the type of the weights."""
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

    def forward(self, *inputs: torch.Tensor, **named: Any) -> torch.Tensor:
        """Return the adapted output; inputs and output are the layer's own."""
        return adapted(self.base, self.bottleneck, self.parallel, inputs, named)

    def adapter_state(self) -> dict[str, torch.Tensor]:
        """Return the weights under their names in ``labkit.contrib.peft_bottleneck``."""
        return {f"bottleneck_{name}": value for name, value in self.bottleneck.state_dict().items()}

    def load_adapter_state(self, state: dict[str, torch.Tensor]) -> None:
        """Set the values that ``adapter_state`` returned."""
        self.bottleneck.load_state_dict({name.removeprefix("bottleneck_"): value for name, value in state.items()})


@register
@dataclass(frozen=True)
class BottleneckAdapters(LayerMethod):
    """Small trained networks in every block.

    Attributes:
        size: the width of the narrow middle.
        placement: ``"houlsby"`` (after the attention and after the MLP), ``"pfeiffer"`` (after the MLP only:
            one a block, Pfeiffer et al., 2021, arXiv:2005.00247) or ``"parallel"`` (beside the MLP).
        activation: ``"relu"``, ``"gelu"`` or ``"silu"``.
        scale: a factor by which the adapter's output is multiplied.
        target_modules: names of the modules to put adapters after (or beside, in parallel), for architectures
            whose parts are not known; ``"auto"`` follows ``placement``.
    """

    name: ClassVar[str] = "bottleneck"
    learning_rate: float = 3e-3
    size: int = 16
    placement: str = "houlsby"
    activation: str = "relu"
    scale: float = 1.0
    target_modules: str | Sequence[str] = "auto"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.placement not in PLACEMENTS:
            raise unknown("placement of adapters", str(self.placement), PLACEMENTS)
        if self.activation not in ACTIVATIONS:
            raise unknown("activation", str(self.activation), ACTIVATIONS)
        size = require_count("A bottleneck's size", self.size, remedy="Try 16.")
        set_checked(self, size=size, scale=require_number("scale", self.scale, above=0))

    def find(self, model: Model) -> dict[str, nn.Module]:
        """Return the modules that get an adapter."""
        if self.target_modules != "auto":
            require_names(model.module, as_list(self.target_modules))
        found = matching(model.module, self._pattern(model))
        for path, layer in found.items():
            if outer := [other for other in found if path.startswith(f"{other}.")]:
                raise LabkitError(f"{path} lies inside {outer[0]}, and both would get an adapter.", "Name one of them.")
            if self.placement == "parallel" and is_linear(layer) and len({*sides(layer)}) > 1:
                raise LabkitError(f"{path} does not have as many inputs as outputs.", "Name another module.")
        return found

    def wrap(self, path: str, layer: nn.Module, model: Model) -> BottleneckLayer:
        """Return ``layer`` with its adapter."""
        width = width_of(layer, model.module.config.hidden_size)
        bottleneck = Bottleneck(width, self.size, self.activation, self.scale, model.device)
        return BottleneckLayer(layer, bottleneck, self.placement == "parallel")

    def peft_config(self, model: Model) -> dict:
        """Return the settings as ``peft_bottleneck.BottleneckConfig`` has them."""
        return {
            "peft_type": "BOTTLENECK",
            "bottleneck_size": self.size,
            "placement": self.placement,
            "activation": self.activation,
            "scale": self.scale,
            "target_modules": self._pattern(model),
        }

    def _pattern(self, model: Model) -> str:
        if self.target_modules != "auto":
            return called(as_list(self.target_modules))
        return insertion_points(model.module.config.model_type, self.placement)
