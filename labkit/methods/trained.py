"""What a run trained, and whether its model still holds it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import torch

from labkit.errors import LabkitError
from labkit.methods.adapter import adapters_of
from labkit.models.model import Model

SAMPLE = 64  # numbers of each frozen weight: a merge or another training changes nearly all of them


@dataclass(frozen=True)
class Trained:
    """What a model was made of when its training began.

    Attributes:
        shapes: of the trained parameters, by name.
        adapters: the kinds of adapters in the network, by path.
        frozen: a digest of each frozen weight in floats, by name.
    """

    shapes: dict[str, tuple[int, ...]]
    adapters: dict[str, str]
    frozen: dict[str, str]

    @classmethod
    def of(cls, model: Model) -> Trained:
        """Return what ``model`` trains and what it leaves as it is."""
        named = _named(model)
        shapes = {name: tuple(p.shape) for name, p in named.items() if p.requires_grad}
        frozen = {name: _digest(p) for name, p in named.items() if name not in shapes}
        return cls(shapes, _adapters(model), frozen)

    def require_in(self, model: Model, method: str) -> None:
        """Raise a ``LabkitError`` where a file with what ``method`` trained would not bring ``model`` back."""
        named = _named(model)
        now = {name: tuple(p.shape) for name, p in named.items()}
        frozen = {name: _digest(p) for name, p in named.items() if name not in self.shapes}
        adapters = _adapters(model)
        fault = ""
        if model.disabled:
            raise LabkitError(
                f"The adapter of {model.name} is disabled, and so is the rest of what {method} trained.",
                "Save the run after the block of lk.disable_adapter.",
            )
        if lost := [name for name, shape in self.shapes.items() if now.get(name) != shape]:
            here = f"has the shape {now[lost[0]]} now" if lost[0] in now else "is gone"
            fault = f"it no longer holds what {method} trained: {lost[0]} {here}"
        elif adapters != self.adapters:
            fault = f"its adapters have changed, at {_first_change(adapters, self.adapters)}"
        elif frozen != self.frozen:
            fault = f"{_first_change(frozen, self.frozen)}, which {method} left as it was, has different values now"
        if fault:
            raise LabkitError(
                f"The model of this run cannot be saved as a run: {fault}. Was it merged, or trained again?",
                "Save the run before that. A whole model is kept with run.model.module.save_pretrained(folder) and "
                "run.model.tokenizer.save_pretrained(folder), and loaded with lk.load_model(folder).",
            )


def _named(model: Model) -> dict[str, torch.nn.Parameter]:
    """Return all parameters by name, the head's included."""
    head = model.head.named_parameters() if model.head is not None else ()
    named = dict(model.module.named_parameters())
    return named | {f"head.{name}": p for name, p in head}


def _adapters(model: Model) -> dict[str, str]:
    return {path: type(layer).__name__ for path, layer in adapters_of(model).items()}


def _first_change(here: dict, there: dict) -> str:
    return min(dict(here.items() ^ there.items()))


@torch.no_grad()
def _digest(weight: torch.Tensor) -> str:
    """Return a digest that is the same in every precision; empty for weights in 4 bits, whose codes may be moved."""
    if weight.is_meta or not weight.is_floating_point():
        return ""
    flat = weight.detach().flatten()
    sample = flat[:: max(1, len(flat) // SAMPLE)].to("cpu", torch.bfloat16)
    return hashlib.sha256(sample.view(torch.int16).numpy().tobytes()).hexdigest()[:16]
