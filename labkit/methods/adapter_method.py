"""What all methods share that freeze the model and train an adapter in it."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path

from torch import nn

from labkit.methods import adapter_files
from labkit.methods.adapter import Adapter, adapters_of, keep_head, require_no_adapter
from labkit.methods.method import Method
from labkit.methods.targets import replace_layer
from labkit.models.model import Model


class AdapterMethod(Method):
    """A method that trains an adapter, which is kept in a file of its own in PEFT's format."""

    @abstractmethod
    def peft_config(self, model: Model) -> dict:
        """Return what PEFT needs to know to put the adapter on ``model``'s base."""

    def save(self, model: Model, folder: Path) -> None:
        """Write the adapter in PEFT's format, which ``PeftModel.from_pretrained`` reads as well."""
        adapter_files.save(self.peft_config(model), model, folder)

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
        # Only now: whatever was refused before left the model as it was.
        model.module, model.untrained_head = tuned.module, tuned.untrained_head
        return model

    def load(self, base: Model, folder: Path) -> Model:
        """Return a model over ``base``'s weights with the saved adapter."""
        tuned = self._with_adapter(base)
        adapter_files.load(tuned, folder)
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
    def find(self, model: Model) -> dict[str, nn.Module]:
        """Return the layers to adapt by their path, or raise a ``LabkitError`` where that cannot be done."""

    @abstractmethod
    def wrap(self, path: str, layer: nn.Module, model: Model) -> Adapter:
        """Return ``layer`` with the adapter around it."""

    def insert(self, tuned: Model) -> None:
        """Freeze ``tuned`` and put adapters around its layers."""
        layers = self.find(tuned)
        tuned.module.requires_grad_(False)
        for path, layer in layers.items():
            replace_layer(tuned.module, path, self.wrap(path, layer, tuned))
