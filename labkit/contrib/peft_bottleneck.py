"""Bottleneck adapters as a method of PEFT's, which has none: importing this module registers them.

After ``from labkit.contrib.peft_bottleneck import BottleneckConfig``, PEFT's ``get_peft_model``, ``save_pretrained``,
``from_pretrained``, ``add_adapter``, ``set_adapter`` and ``disable_adapter`` take them as they take LoRA, and a batch
may name an adapter for each of its rows.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

import torch
from torch import nn

from labkit.errors import LabkitError
from labkit.extras import unusable
from labkit.methods.bottleneck import Bottleneck, BottleneckAdapters, adapted, through
from labkit.methods.targets import insertion_points, width_of

try:
    from peft import PeftConfig, PeftType
    from peft.tuners.tuners_utils import BaseTuner, BaseTunerLayer
    from peft.utils import register_peft_method
    from peft.utils.other import AuxiliaryTrainingWrapper
except ImportError as problem:
    raise unusable("peft", problem) from problem

NAME = "BOTTLENECK"


def _add_peft_type(name: str) -> None:
    """Add a member to PEFT's list of methods, which is an enumeration: made, as Python has it, to be closed."""
    if name not in PeftType.__members__:
        member = str.__new__(PeftType, name)
        member._name_ = member._value_ = name
        PeftType._member_names_.append(name)
        PeftType._member_map_[name] = PeftType._value2member_map_[name] = member
        type.__setattr__(PeftType, name, member)


_add_peft_type(NAME)


@dataclass
class BottleneckConfig(PeftConfig):
    """Settings of bottleneck adapters.

    Args:
        target_modules: a pattern for the paths of modules to adapt, or the ends of their paths; by default
            ``placement`` decides.
        bottleneck_size, placement, activation, scale: as in ``labkit.BottleneckAdapters``.
        modules_to_save: other modules to train and save whole, such as a classifier.

    Raises:
        LabkitError: a setting that makes no sense.
    """

    target_modules: str | list[str] | None = None
    exclude_modules: str | list[str] | None = None
    bottleneck_size: int = 16
    placement: str = "houlsby"
    activation: str = "relu"
    scale: float = 1.0
    modules_to_save: list[str] | None = field(default=None)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.peft_type = PeftType(NAME)
        BottleneckAdapters(
            size=self.bottleneck_size, placement=self.placement, activation=self.activation, scale=self.scale
        )  # raises where a setting makes no sense


class BottleneckTunerLayer(nn.Module, BaseTunerLayer):
    """A layer with bottlenecks of several names, of which those that are active read what passes, in turn.

    PEFT finds an adapter's name in its files at the last place but one: ``bottleneck_down.<name>.weight``.
    """

    adapter_layer_names = ("bottleneck_down", "bottleneck_up")
    other_param_names = ()

    def __init__(self, base_layer: nn.Module, parallel: bool):
        super().__init__()
        self.base_layer, self.parallel = base_layer, parallel
        self.bottleneck_down, self.bottleneck_up = nn.ModuleDict(), nn.ModuleDict()
        self.settings: dict[str, tuple[nn.Module, float]] = {}  # activation and scale
        self._disable_adapters = False
        self.merged_adapters: list[str] = []

    def add(self, name: str, config: BottleneckConfig, width: int, active: bool) -> None:
        """Add a bottleneck under a name; it is trainable where it is active."""
        tensor = next(itertools.chain(self.base_layer.parameters(), self.base_layer.buffers()), None)
        device = None if tensor is None else tensor.device
        made = Bottleneck(width, config.bottleneck_size, config.activation, config.scale, device)
        self.bottleneck_down[name], self.bottleneck_up[name] = made.down, made.up
        self.settings[name] = made.activation, made.scale
        if active:
            self.set_adapter(self.active_adapters, inference_mode=config.inference_mode)
        else:
            made.requires_grad_(False)

    def forward(self, *inputs: torch.Tensor, adapter_names: list[str] | None = None, **named: Any) -> torch.Tensor:
        """Return the adapted output; ``adapter_names`` gives each row of a batch the adapter of that name."""
        if self.disable_adapters:
            return self.base_layer(*inputs, **named)
        if adapter_names is None:
            return adapted(self.base_layer, self._in_turn, self.parallel, inputs, named)
        return adapted(self.base_layer, partial(self._by_row, names=adapter_names), self.parallel, inputs, named)

    def _through(self, x: torch.Tensor, name: str) -> torch.Tensor:
        activation, scale = self.settings[name]
        down, up = (cast(nn.Linear, layers[name]) for layers in (self.bottleneck_down, self.bottleneck_up))
        return through(x, down, activation, up, scale)

    def _in_turn(self, x: torch.Tensor) -> torch.Tensor:
        total = torch.zeros_like(x)
        for name in self.active_adapters:
            if name in self.bottleneck_down:
                total = total + self._through(x + total, name)
        return total

    def _by_row(self, x: torch.Tensor, names: list[str]) -> torch.Tensor:
        times, rest = divmod(len(x), len(names) or len(x) + 1)
        if rest:
            raise LabkitError(f"adapter_names has {len(names)} names for {len(x)} rows.", "Name one for each row.")
        names = [name for name in names for _ in range(times)]  # OPT's MLP sees all tokens of a batch as rows
        result = torch.zeros_like(x)
        for name in sorted(set(names) & set(self.bottleneck_down)):  # "__base__" stands for none
            rows = [row for row, other in enumerate(names) if other == name]
            result[rows] = self._through(x[rows], name)
        return result


class BottleneckModel(BaseTuner):
    """What PEFT wraps a network in."""

    prefix = "bottleneck_"
    tuner_layer_cls = BottleneckTunerLayer

    def _replace_module(self, parent: nn.Module, child_name: str, new_module: nn.Module, child: nn.Module) -> None:
        setattr(parent, child_name, new_module)  # PEFT's own looks for a weight, which an MLP has not

    # PEFT gives each tuner configurations of its own kind, typed as the base class: overrides are ignored.
    def _check_new_adapter_config(self, config: BottleneckConfig) -> None:  # type: ignore[override]
        super()._check_new_adapter_config(config)
        configs = cast("dict[str, BottleneckConfig]", self.peft_config).values()
        if len({other.placement == "parallel" for other in configs}) > 1:
            raise LabkitError(
                "Adapters beside a layer (parallel) and behind one cannot share a model: one would be put inside the "
                "other, and saved under names that no model has.",
                "Use two models, or one placement.",
            )

    @staticmethod
    def _prepare_adapter_config(  # type: ignore[override]
        peft_config: BottleneckConfig, model_config: dict
    ) -> BottleneckConfig:
        if peft_config.target_modules is None:
            peft_config.target_modules = insertion_points(model_config["model_type"], peft_config.placement)
        return peft_config

    def _create_and_replace(  # type: ignore[override]
        self,
        peft_config: BottleneckConfig,
        adapter_name: str,
        target: nn.Module,
        target_name: str,
        parent: nn.Module,
        current_key: str,
        **_: Any,
    ) -> None:
        parallel = peft_config.placement == "parallel"
        layer = target if isinstance(target, BottleneckTunerLayer) else BottleneckTunerLayer(target, parallel)
        if layer is not target:
            layer._active_adapter = self.active_adapters
            self._replace_module(parent, target_name, layer, target)
        width = width_of(layer.get_base_layer(), getattr(getattr(self.model, "config", None), "hidden_size", 0))
        layer.add(adapter_name, peft_config, width, adapter_name in self.active_adapters)

    @contextmanager
    def _enable_peft_forward_hooks(self, *args: Any, **kwargs: Any) -> Iterator[None]:
        names = kwargs.pop("adapter_names", None)
        if names is None:
            yield
            return
        if self.training:
            raise LabkitError("adapter_names are for inference.", "Call model.eval() first.")
        if missing := set(names) - set(self.peft_config) - {"__base__"}:
            raise LabkitError(
                f"There is no adapter called {', '.join(sorted(missing))}.", f"Known: {', '.join(self.peft_config)}."
            )
        names = [name for name in names for _ in range(kwargs.get("num_beams") or 1)]
        layers = [
            layer for layer in self.modules() if isinstance(layer, BottleneckTunerLayer | AuxiliaryTrainingWrapper)
        ]
        add = lambda module, args, kwargs: (args, kwargs | {"adapter_names": names})  # noqa: E731
        handles = [layer.register_forward_pre_hook(add, with_kwargs=True) for layer in layers]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _check_merge_allowed(self) -> None:
        raise LabkitError(
            "Bottleneck adapters cannot be merged: no weight of a linear layer does what they do.",
            "Keep them beside the model; unload() removes them.",
        )


register_peft_method(
    name=NAME.lower(), config_cls=BottleneckConfig, model_cls=BottleneckModel, prefix=BottleneckModel.prefix
)
