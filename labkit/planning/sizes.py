"""Sizes of memory: how they are written, and what a GPU's allocator makes of them."""

from __future__ import annotations

import re

from labkit.errors import LabkitError, unknown

# Memory of common cards in bytes, as programs find it: a maker's GB is 2³⁰ bytes, and some cards keep a part.
GPUS = {
    "t4": 15 * 2**30,
    "rtx3090": 24 * 2**30,
    "rtx4090": 24 * 2**30,
    "l4": 45 * 2**29,
    "v100": 32 * 2**30,
    "a6000": 48 * 2**30,
    "l40s": 45 * 2**30,
    "a100": 80 * 2**30,
    "h100": 80 * 2**30,
    "h200": 141 * 10**9,
}
UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
UNITS |= {"KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}
# What CUDA itself takes for its context and kernels: 0.3 to 0.6 GB on cards of the last years. An assumption.
CONTEXT = 600 * 10**6
SHARED = 22 * 2**20  # of the segments that tensors share, one of 2 MiB and one of 20 MiB may be partly empty


def parse_size(text: str | int) -> int:
    """Return bytes from a number of bytes, a size such as ``"48GB"`` or ``"24 GiB"``, or a card's name.

    A GB is 10⁹ bytes here, a little less than the GiB that makers of cards mean by it: to be on the safe side.

    Raises:
        LabkitError: it is none of these, or not above 0.
    """
    if isinstance(text, str):
        name = re.sub(r"[\s_-]", "", text).lower()
        if name in GPUS:
            return GPUS[name]
        match = re.fullmatch(r"([0-9]{1,15}(?:\.[0-9]+)?)\s*([A-Za-z]*)", text.strip())
        if not match or match[2].upper() not in {"", *UNITS}:
            raise unknown(
                "size or GPU", text, GPUS, " A size is a number with MB, GB, TB, MiB, GiB or TiB, as in 48GB."
            )
        size = int(float(match[1]) * UNITS[match[2].upper() or "B"])
    else:
        size = text
    if not isinstance(size, int) or size < 10**6:
        raise LabkitError(f"{text!r} is no size of a GPU's memory.", 'Write one such as "48GB", or a number of bytes.')
    return size


def readable(size: float) -> str:
    """Return a number of bytes in the unit that suits it: MB up to a billion, then GB."""
    if abs(size) < 10**9:
        return f"{size / 10**6:.0f} MB"
    return f"{size / 10**9:.1f} GB" if abs(size) < 10**12 else f"{size / 10**9:,.0f} GB"


def allocated(size: int) -> int:
    """Return what torch's allocator on CUDA counts for a tensor: whole blocks of 512 bytes."""
    return -(-size // 512) * 512


def reserved(size: int) -> int:
    """Return about what torch's allocator on CUDA takes from the card for a tensor.

    Tensors of 10 MiB and more get segments of their own of whole 2 MiB; smaller ones share segments, of which
    one may be partly empty (``c10/cuda/CUDACachingAllocator.cpp`` in torch). Gaps that a step leaves between
    tensors come on top.
    """
    return -(-size // 2**21) * 2**21 if size >= 10 * 2**20 else allocated(size)
