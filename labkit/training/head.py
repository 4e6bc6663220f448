"""The classifier on top of an encoder, on disk."""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn.utils import skip_init

from labkit.assets.models import Model

FILE = "head.safetensors"


def save_head(model: Model, folder: Path) -> None:
    """Write the head, where there is one."""
    if model.head is not None:
        save_file({name: p.detach().contiguous() for name, p in model.head.state_dict().items()}, folder / FILE)


def load_head(model: Model, folder: Path) -> Model:
    """Put the saved head, where there is one, on the model and return the model."""
    if (folder / FILE).is_file():
        tensors = load_file(folder / FILE)
        classes, width = tensors["weight"].shape
        model.head = skip_init(nn.Linear, width, classes, device=model.device)
        model.head.load_state_dict(tensors)
    return model
