"""Which device and which number format suit this computer, and how weights are stored in it."""

from __future__ import annotations

import os

import torch
from torch import nn

from labkit.errors import LabkitError, unknown
from labkit.quant.matrix import LINEAR

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
VARIABLE = "LABKIT_PRECISION"


def pick_device(name: str = "auto") -> torch.device:
    """Return the named device; ``"auto"`` is the first CUDA GPU where there is one, else the CPU."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as problem:
        raise LabkitError(
            f"This computer has no usable device {name!r}.", 'Pass device="auto" or device="cpu".'
        ) from problem
    return device


def pick_precision(name: str, device: torch.device) -> torch.dtype:
    """Return the named type; ``"auto"`` is the fastest type that the device computes without emulation.

    That is bfloat16 on CPUs with AVX512-BF16 or AMX and on GPUs since Ampere, float16 on older GPUs
    such as the T4 (trained with loss scaling), and float32 elsewhere. The environment variable
    ``LABKIT_PRECISION`` names what ``"auto"`` is instead: with ``float32`` a new processor computes as an old
    one does.

    Raises:
        LabkitError: there is no such precision, or the device cannot train in it.
    """
    if name == "auto":
        name = os.environ.get(VARIABLE, "").strip().lower() or "auto"
        if name not in PRECISIONS and name != "auto":
            raise unknown("precision", name, ["auto", *PRECISIONS], f" The environment variable {VARIABLE} names it.")
    if name != "auto":
        if name not in PRECISIONS:
            raise unknown("precision", name, ["auto", *PRECISIONS])
        if name == "float16" and device.type == "cpu":
            raise LabkitError("float16 cannot be trained on a CPU.", 'Use "auto", "float32" or "bfloat16".')
        return PRECISIONS[name]
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.get_device_capability(device) >= (8, 0) else torch.float16
    return torch.bfloat16 if device.type == "cpu" and cpu_has_bfloat16() else torch.float32


def cpu_has_bfloat16() -> bool:
    """Say whether this CPU multiplies bfloat16 matrices in hardware."""
    probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, probe, lambda: False)() for probe in probes)


def store_linear_weights(module: nn.Module, dtype: torch.dtype) -> None:
    """Store the matrices of linear layers in ``dtype``, except those tied to an embedding."""
    embeddings = {id(m.weight) for m in module.modules() if isinstance(m, nn.Embedding)}
    for layer in module.modules():
        if isinstance(layer, LINEAR) and id(layer.weight) not in embeddings:
            layer.weight.data = layer.weight.data.to(dtype)
