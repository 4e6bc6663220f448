"""Put a model into evaluation mode inside a block, without gradients, and restore it afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from labkit.process import alone

if TYPE_CHECKING:
    from labkit.models.model import Model


@contextmanager
def inference(model: Model) -> Iterator[None]:
    """Put the model's network into evaluation mode inside the block, without gradients; one thread at a time.

    Matrix products run in the model's precision. Afterwards all of this is restored, the mode of each module included.
    """
    with alone():
        modes = [(part, part.training) for part in model.module.modules()]
        try:
            model.module.eval()
            with torch.no_grad(), model.autocast():
                yield
        finally:
            for part, mode in modes:
                part.training = mode
