"""Bottleneck adapters: which layers of a model get a bottleneck."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from labkit.errors import LabkitError, require_count, require_number, set_checked, unknown
from labkit.methods.adapter_method import LayerMethod
from labkit.methods.bottleneck import ACTIVATIONS, Bottleneck, BottleneckLayer
from labkit.methods.method import register
from labkit.methods.places import block_of, called, in_blocks, matching, require_names
from labkit.methods.targets import as_list
from labkit.models.model import Model
from labkit.quant.matrix import is_linear, sides

PLACEMENTS = ("houlsby", "pfeiffer", "parallel")


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

    def __post_init__(self):
        super().__post_init__()
        size, scale = check(self.size, self.placement, self.activation, self.scale)
        set_checked(self, size=size, scale=scale)

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


def check(size: int, placement: str, activation: str, scale: float) -> tuple[int, float]:
    """Return the size and the scale, or raise a ``LabkitError`` where settings of an adapter make no sense."""
    if placement not in PLACEMENTS:
        raise unknown("placement of adapters", str(placement), PLACEMENTS)
    if activation not in ACTIVATIONS:
        raise unknown("activation", str(activation), ACTIVATIONS)
    return require_count("A bottleneck's size", size, remedy="Try 16."), require_number("scale", scale, above=0)


def insertion_points(architecture: str, placement: str) -> str:
    """Return a pattern for the paths of the modules that get an adapter.

    Raises:
        LabkitError: the architecture is not known, or has no such place.
    """
    block = block_of(architecture)
    names = {"houlsby": (block.attention, block.mlp), "pfeiffer": (block.mlp,), "parallel": (block.feed_forward,)}
    if not all(names[placement]):
        raise LabkitError(
            f"The MLP of {architecture} is no module of its own, so that nothing can stand beside it.",
            'Use placement="houlsby" or "pfeiffer".',
        )
    return in_blocks(names[placement])


def width_of(layer: nn.Module, hidden_size: int) -> int:
    """Return how many numbers come out of a layer: its own count where it has one, else the model's."""
    return sides(layer)[1] if is_linear(layer) else hidden_size
