"""Gradient checkpointing, switched on for a run and off after it."""

from __future__ import annotations

from labkit.errors import LabkitError
from labkit.models.model import Model


class Recomputation:
    """Makes a model keep only the input of each block for the backward pass, which then computes the rest again.

    Raises:
        LabkitError: the model's architecture doesn't offer it.
    """

    def __init__(self, model: Model):
        self._module = model.module
        if not getattr(self._module, "supports_gradient_checkpointing", False):
            raise LabkitError(f"{model.name} has no gradient checkpointing.", "Set gradient_checkpointing=False.")
        # transformers renamed gradient checkpointing to activation checkpointing in 5.x.
        self._kind = "activation" if hasattr(self._module, "activation_checkpointing_enable") else "gradient"
        self._use_cache = getattr(self._module.config, "use_cache", None)
        getattr(self._module, f"{self._kind}_checkpointing_enable")({"use_reentrant": False})
        if self._use_cache is not None:
            self._module.config.use_cache = False  # useless in training; transformers would warn of it

    def end(self) -> None:
        """Make the model keep all activations again."""
        getattr(self._module, f"{self._kind}_checkpointing_disable")()
        if self._use_cache is not None:
            self._module.config.use_cache = self._use_cache
