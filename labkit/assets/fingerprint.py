"""Tell a network's weights from any others by a few digits."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import nn

SAMPLE = 64


def fingerprint(module: nn.Module) -> str:
    """Return 16 hexadecimal digits of all weights' names, shapes and values.

    Values are rounded to bfloat16, so the same weights stored in another precision count as the same.
    """
    state = module.state_dict()
    with ThreadPoolExecutor() as pool:  # hashing leaves Python's lock to others
        hashes = list(pool.map(_hash, state.values()))
    digest = hashlib.sha256()
    for (name, tensor), values in zip(state.items(), hashes, strict=True):
        digest.update(f"{name}{tuple(tensor.shape)}".encode() + values)
    return digest.hexdigest()[:16]


def fingerprint_of_samples(module: nn.Module) -> str:
    """Return what stood for a network's weights in files without a version: the first 64 values of each tensor."""
    digest = hashlib.sha256()
    for name, tensor in module.state_dict().items():
        digest.update(f"{name}{tuple(tensor.shape)}".encode())
        digest.update(_bytes(tensor.flatten()[:SAMPLE]))
    return digest.hexdigest()[:16]


def state_of(module: nn.Module) -> tuple | None:
    """Return what tells at once whether weights may have changed since; None where that cannot be told.

    Torch counts the changes made to a tensor in place. Changes behind its back (through ``.data``, or by another
    library's optimizer) are not counted, but show in values taken from all over the tensor.
    """
    try:
        return tuple(
            (name, tensor.data_ptr(), tensor._version, tensor.dtype, _bytes(_spread(tensor)))
            for name, tensor in module.state_dict().items()
        )
    except RuntimeError:  # tensors made in inference mode count nothing
        return None


def _spread(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.flatten()[:: max(1, tensor.numel() // SAMPLE)]


def _hash(tensor: torch.Tensor) -> bytes:
    return hashlib.sha256(_bytes(tensor)).digest()


def _bytes(tensor: torch.Tensor) -> bytes:
    return tensor.detach().to("cpu", torch.bfloat16).contiguous().view(torch.int16).numpy().tobytes()
