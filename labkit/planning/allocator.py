"""How much of a GPU's memory torch's CUDA allocator takes for tensors, and CUDA for itself."""

from __future__ import annotations

# What CUDA itself takes for its context and kernels: an assumption. Recent cards take 0.3 to 0.6 GB.
CONTEXT = 600 * 10**6
SHARED = 22 * 2**20  # bytes that may be unused in shared segments: one of 2 MiB and one of 20 MiB


def allocated(size: int) -> int:
    """Return the bytes that the allocator counts for a tensor: whole blocks of 512 bytes."""
    return -(-size // 512) * 512


def reserved(size: int) -> int:
    """Return about how many bytes the allocator takes from the card for a tensor.

    A tensor of 10 MiB or more gets its own segment, a multiple of 2 MiB; smaller ones share segments
    (``c10/cuda/CUDACachingAllocator.cpp`` in torch). Gaps that a step leaves between tensors are not counted.
    """
    return -(-size // 2**21) * 2**21 if size >= 10 * 2**20 else allocated(size)
