"""What methods have in common that freeze the model and train an adapter in it."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path

from torch import nn

from labkit.assets.models import Model
from labkit.methods import adapter_files
from labkit.methods.adapter import Adapter, require_no_adapter
from labkit.methods.registry import Method
from labkit.methods.targets import replace_layer


class AdapterMethod(Method):
    """A method that trains an adapter, which is kept in a file of its own in PEFT's format."""

    @abstractmethod
    def peft_config(self, model: Model) -> dict:
        """Return what PEFT needs to know to put the adapter on ``model``'s base."""

    def save(self, model: Model, folder: Path) -> None:
        """Write the adapter in PEFT's format, which ``PeftModel.from_pretrained`` reads as well."""
        adapter_files.save(self.peft_config(model), model, folder)

    def load(self, base: Model, folder: Path) -> Model:
        """Return a model over ``base``'s weights with the saved adapter."""
        tuned = self.apply(base)
        adapter_files.load(tuned, folder)
        return tuned


class LayerMethod(AdapterMethod):
    """An adapter that is put around chosen layers."""

    @abstractmethod
    def find(self, model: Model) -> dict[str, nn.Module]:
        """Return the layers to adapt by their path, or raise a ``LabkitError`` where that cannot be done."""

    @abstractmethod
    def wrap(self, path: str, layer: nn.Module, model: Model) -> Adapter:
        """Return ``layer`` with the adapter around it."""

    def apply(self, model: Model, *, inplace: bool = False) -> Model:
        """Return a model with adapters of its own over the same base weights, which are not copied."""
        require_no_adapter(model)
        tuned = model if inplace else model.copy(share_weights=True)
        layers = self.find(tuned)
        tuned.module.requires_grad_(False)
        for path, layer in layers.items():
            replace_layer(tuned.module, path, self.wrap(path, layer, tuned))
        return tuned
