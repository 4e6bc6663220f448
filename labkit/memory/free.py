"""How much main memory is available, within the limits of a container, and how freed memory gets there."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath

import psutil

# Linux limits memory by control groups (cgroups), in two versions: see the kernel's documentation,
# admin-guide/cgroup-v2.rst and admin-guide/cgroup-v1/memory.rst. For each version: the file of the limit, the file
# of the usage, and the field of memory.stat with the bytes of cached files that were not used lately. These are
# part of the usage, but the kernel drops them when memory is short.
FILES = (
    ("memory.max", "memory.current", "inactive_file"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)


def available_memory(root: Path = Path("/")) -> int:
    """Return the bytes of main memory that this process can still get.

    ``psutil`` reports what the whole computer has available. A container may have a much lower limit, and is
    killed when it exceeds it.

    Args:
        root: the root of the file system; tests pass another one.
    """
    return max(0, min([psutil.virtual_memory().available, *_remaining(root)]))


def return_freed_memory() -> None:
    """Return to the system what the C library keeps of freed memory, where it is glibc; elsewhere, do nothing.

    glibc keeps freed blocks that are small or lie below others in use. Of the tensors of a training step, these may be
    gigabytes, which neither another process nor ``available_memory`` would see.
    """
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):  # another C library
            ctypes.CDLL(None).malloc_trim(0)


def _remaining(root: Path) -> Iterator[int]:
    """Yield the bytes that each control group around this process still allows, if it has a limit."""
    for folder in _groups(root):
        for limit, usage, cached in FILES:
            try:
                remaining = _number(folder / limit) - _number(folder / usage)
            except (OSError, ValueError):  # the other version, or no limit ("max")
                continue
            yield remaining + _stat(folder).get(cached, 0)


def _number(file: Path) -> int:
    return int(file.read_text(encoding="ascii"))


def _stat(folder: Path) -> dict[str, int]:
    try:
        lines = [line.split() for line in (folder / "memory.stat").read_text(encoding="ascii").splitlines()]
        return {line[0]: int(line[1]) for line in lines if len(line) == 2}
    except (OSError, ValueError):
        return {}


def _groups(root: Path) -> Iterator[Path]:
    """Yield the folders of the control groups that this process is in, the outermost first; none except on Linux.

    Inside a container, the path of the group may be the host's, whose folders do not exist in the container; the
    container's own group is then the outermost folder.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return
    for line in lines:
        _, kinds, path = [*line.split(":", 2), "", ""][:3]
        if kinds and "memory" not in kinds.split(","):
            continue
        inner = [part for part in PurePosixPath(path).parts if part not in ("/", "..")]
        for mount in ["memory"] if kinds else ["", "unified"]:
            top = root / "sys/fs/cgroup" / mount
            yield from (top.joinpath(*inner[:depth]) for depth in range(len(inner) + 1))
