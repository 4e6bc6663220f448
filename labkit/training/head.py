"""The classifier on top of an encoder, on disk."""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import save_file
from torch import nn

from labkit.models.model import Model
from labkit.storage import records

FILE = "head.safetensors"


def save_head(model: Model, folder: Path) -> None:
    """Write the model's head into a folder, if there is one."""
    if model.head is not None:
        save_file({name: p.detach().contiguous() for name, p in model.head.state_dict().items()}, folder / FILE)


def load_head(model: Model, folder: Path, classes: int = 0) -> Model:
    """Put the saved head, if there is one, on the model and return the model.

    Args:
        model: the model that gets the head.
        folder: where the head was saved.
        classes: how many classes it must have; 0 if there may be no head.

    Raises:
        LabkitError: the head is missing or damaged, or is for other classes or another model.
    """
    path = folder / FILE
    if not classes and not path.is_file():
        return model
    tensors = records.read_tensors(path)
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    count = classes or len(tensors.get("bias", ()))
    width = model.module.config.hidden_size
    expected = {"weight": (count, width), "bias": (count,)}
    if shapes != expected:
        raise records.damaged(path, f"a head of {expected} was expected, and it holds {shapes}")
    head = nn.Linear(width, count, device="meta")
    head.load_state_dict({name: tensor.to(model.device) for name, tensor in tensors.items()}, assign=True)
    model.head = head
    return model
