"""Adapters: trained parts inside a frozen model, and the base classes of the methods that train them."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from labkit.errors import LabkitError
from labkit.methods import adapter_files
from labkit.methods.method import Method
from labkit.methods.targets import replace_layer
from labkit.models.model import Model


class Adapter(nn.Module, ABC):
    """A trained part that was put into a model.

    Attributes:
        of_layer: whether it belongs to one layer, or to the model as a whole.
        mergeable: whether it can become part of its layer's weight.
        base: the layer that it belongs to.
        disabled: whether the model computes as if it weren't there; see ``disable_adapter``.
    """

    of_layer = True
    mergeable = False
    base: nn.Module
    disabled = False

    def __call__(self, *inputs: torch.Tensor, **named: Any) -> torch.Tensor:
        """Return the adapted layer's output, or the layer's own while the adapter is disabled."""
        return self.base(*inputs, **named) if self.disabled else super().__call__(*inputs, **named)

    def start(self) -> None:
        """Compute from the weights where training starts. It may take long, and a loaded adapter skips it."""

    @abstractmethod
    def adapter_state(self) -> dict[str, torch.Tensor]:
        """Return the trained tensors, under their names in PEFT's files."""

    @abstractmethod
    def load_adapter_state(self, state: dict[str, torch.Tensor]) -> None:
        """Set the values that ``adapter_state`` returned."""


def keep_head(model: Model) -> None:
    """Remember the head of ``model`` as it is now, before it is trained beside an adapter or alone."""
    head = copy.deepcopy(model.head)
    model.untrained_head = (head.requires_grad_(False) if head is not None else None), model.labels


def adapters_of(model: Model) -> dict[str, Adapter]:
    """Return the adapters in a model by their path."""
    return {path: layer for path, layer in model.module.named_modules() if isinstance(layer, Adapter)}


def require_no_adapter(model: Model) -> None:
    """Raise a ``LabkitError`` where ``model`` has an adapter."""
    if found := adapters_of(model).values():
        merge = "Make it part of the weights first, with lk.merge(model), or start from the base model."
        mergeable = all(adapter.mergeable for adapter in found)
        raise LabkitError(f"{model.name} has an adapter already.", merge if mergeable else "Start from the base model.")


class AdapterMethod(Method):
    """A method that trains an adapter, which is kept in a file of its own in PEFT's format."""

    @abstractmethod
    def peft_config(self, model: Model) -> dict:
        """Return what PEFT needs to know to put the adapter on ``model``'s base."""

    def save(self, model: Model, folder: Path) -> None:
        """Write the adapter in PEFT's format, which ``PeftModel.from_pretrained`` reads as well."""
        adapter_files.save(self.peft_config(model), model, adapters_of(model), folder)

    @abstractmethod
    def insert(self, tuned: Model) -> None:
        """Freeze ``tuned`` and put an adapter into it, or raise a ``LabkitError`` where that cannot be done."""

    def apply(self, model: Model, *, inplace: bool = False) -> Model:
        """Return a model with an adapter of its own over the same base weights, which are not copied."""
        tuned = self._with_adapter(model)
        for adapter in adapters_of(tuned).values():
            adapter.start()
        if not inplace:
            return tuned
        # Change the model only now, so that a refusal above leaves it as it was.
        model.module, model.untrained_head = tuned.module, tuned.untrained_head
        return model

    def load(self, base: Model, folder: Path) -> Model:
        """Return a model over ``base``'s weights with the saved adapter."""
        tuned = self._with_adapter(base)
        adapter_files.load(adapters_of(tuned), folder, tuned.device)
        return tuned

    def _with_adapter(self, model: Model) -> Model:
        require_no_adapter(model)
        tuned = model.copy(share_weights=True)
        keep_head(tuned)
        self.insert(tuned)
        return tuned


class LayerMethod(AdapterMethod):
    """A method that puts adapters around chosen layers."""

    @abstractmethod
    def find(self, model: Model) -> Mapping[str, nn.Module]:
        """Return the layers to adapt by their path, or raise a ``LabkitError`` where that cannot be done."""

    @abstractmethod
    def wrap(self, path: str, layer: Any, model: Model) -> Adapter:
        """Return ``layer``, one that ``find`` returned, with the adapter around it."""

    def insert(self, tuned: Model) -> None:
        """Freeze ``tuned`` and put adapters around its layers."""
        layers = self.find(tuned)
        tuned.module.requires_grad_(False)
        for path, layer in layers.items():
            replace_layer(tuned.module, path, self.wrap(path, layer, tuned))
