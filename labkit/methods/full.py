"""Full fine-tuning: every weight is trained."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from safetensors import SafetensorError
from safetensors.torch import load_model, save_model

from labkit.errors import LabkitError
from labkit.methods.adapter import require_no_adapter
from labkit.methods.method import Method, register
from labkit.models.model import Model
from labkit.storage.records import damaged

WEIGHTS = "model.safetensors"


@register
@dataclass(frozen=True)
class FullFineTuning(Method):
    """Train all weights, kept in float32.

    Rates much above the default make small models forget, as notebook 01 measures. The weights are
    held in float32 even where matrix products run in bfloat16: an update of 1e-4 of a weight is below
    bfloat16's resolution (2⁻⁸, about 0.4%) and would be rounded away (Micikevicius et al., 2018,
    Mixed Precision Training, arXiv:1710.03740, section 3.1).
    """

    name: ClassVar[str] = "full"
    learning_rate: float = 1e-4

    def apply(self, model: Model, *, inplace: bool = False) -> Model:
        """Return a float32 copy of ``model``, or ``model`` itself in float32, with every weight trainable."""
        require_no_adapter(model)
        model.require_floats()
        tuned = model if inplace else model.copy(share_weights=False)
        tuned.module.float().requires_grad_(True)
        tuned.untrained_head = None
        return tuned

    def save(self, model: Model, folder: Path) -> None:
        """Write all weights to ``model.safetensors``; weights that are tied are written once."""
        require_no_adapter(model)
        model.require_floats()
        save_model(model.module, str(folder / WEIGHTS))

    def load(self, base: Model, folder: Path) -> Model:
        """Return a copy of ``base`` that holds the saved weights.

        Raises:
            LabkitError: the file is missing or damaged, or holds the weights of another model.
        """
        require_no_adapter(base)
        tuned = base.copy(share_weights=False)
        tuned.module.requires_grad_(True)
        tuned.untrained_head = None
        path = folder / WEIGHTS
        try:
            load_model(tuned.module, str(path))
        except (OSError, SafetensorError) as problem:
            raise damaged(path, str(problem)) from problem
        except RuntimeError as problem:
            raise LabkitError(
                f"{path} does not fit {base.name}: {str(problem).splitlines()[-1].strip()}",
                "Load it onto the model that the training started from.",
            ) from problem
        return tuned
