"""Tell a network's weights from any others by a few digits."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import nn

SAMPLE = 64


def fingerprint(module: nn.Module, *, exact: bool = False) -> str:
    """Return 16 hexadecimal digits of all weights' names, shapes and values.

    Values are rounded to bfloat16, so the same weights stored in another precision count as the same. With ``exact``
    they are not, and the smallest change counts.
    """
    hash_of = _hash_exactly if exact else _hash
    state = module.state_dict()
    digest = hashlib.sha256()
    with ThreadPoolExecutor(max_workers=4) as pool:  # hashing leaves Python's lock to others
        hashes = {}
        for tensor in state.values():
            if _place(tensor) not in hashes:  # tied weights are hashed once
                hashes[_place(tensor)] = pool.submit(hash_of, tensor)
        for name, tensor in state.items():
            digest.update(f"{name}{tuple(tensor.shape)}".encode() + hashes[_place(tensor)].result())
    return digest.hexdigest()[:16]


def fingerprint_of_samples(module: nn.Module) -> str:
    """Return what stood for a network's weights in files without a version: the first 64 values of each tensor."""
    digest = hashlib.sha256()
    for name, tensor in module.state_dict().items():
        digest.update(f"{name}{tuple(tensor.shape)}".encode())
        digest.update(_rounded(tensor.flatten()[:SAMPLE]))
    return digest.hexdigest()[:16]


def state_of(module: nn.Module) -> tuple | None:
    """Return what tells at once whether weights may have changed since; None where that cannot be told.

    Torch counts the changes made to a tensor in place. Changes behind its back (through ``.data``, or by another
    library's optimizer) are not counted, but show in values taken from all over the tensor.
    """
    try:
        return tuple(
            (name, _place(tensor), tensor._version, _rounded(_spread(tensor)).tobytes())
            for name, tensor in module.state_dict(keep_vars=True).items()
        )
    except RuntimeError:  # tensors made in inference mode count nothing
        return None


def _spread(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.flatten()[:: max(1, tensor.numel() // SAMPLE)]


def _place(tensor: torch.Tensor) -> tuple:
    return tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype


def _hash(tensor: torch.Tensor) -> bytes:
    return hashlib.sha256(_rounded(tensor)).digest()


def _hash_exactly(tensor: torch.Tensor) -> bytes:
    values = tensor.detach().to("cpu").contiguous().flatten().view(torch.uint8)
    return hashlib.sha256(f"{tensor.dtype}".encode() + values.numpy().data).digest()


def _rounded(tensor: torch.Tensor) -> memoryview:
    return tensor.detach().flatten().to("cpu", torch.bfloat16).view(torch.int16).numpy().data
