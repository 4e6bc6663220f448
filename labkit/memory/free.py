"""How much main memory can still be had: what the computer has free, within the limits of a container."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import psutil

# Linux keeps limits in control groups (cgroups), of which there are two kinds: kernel documentation,
# admin-guide/cgroup-v2.rst and admin-guide/cgroup-v1/memory.rst. Files of limit and usage, and the count of
# cached file pages that nobody has used lately: these are part of the usage, and given up when memory is short.
FILES = (
    ("memory.max", "memory.current", "inactive_file"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)


def available_memory(root: Path = Path("/")) -> int:
    """Return the bytes of main memory that this process can still get.

    ``psutil`` knows what the whole computer has available. A container may be allowed much less, and is killed beyond.

    Args:
        root: of the file system; another one for tests.
    """
    return max(0, min([psutil.virtual_memory().available, *_rooms(root)]))


def _rooms(root: Path) -> Iterator[int]:
    """Yield what each control group around this process leaves of its limit, where it has one."""
    for folder in _groups(root):
        for limit, usage, cached in FILES:
            try:
                room = _number(folder / limit) - _number(folder / usage)
            except (OSError, ValueError):  # another kind of group, or a limit of "max"
                continue
            yield room + _stat(folder).get(cached, 0)


def _number(file: Path) -> int:
    return int(file.read_text(encoding="ascii"))


def _stat(folder: Path) -> dict[str, int]:
    try:
        lines = [line.split() for line in (folder / "memory.stat").read_text(encoding="ascii").splitlines()]
        return {line[0]: int(line[1]) for line in lines if len(line) == 2}
    except (OSError, ValueError):
        return {}


def _groups(root: Path) -> Iterator[Path]:
    """Yield the folders of the control groups that this process is in, from the outermost; on Linux alone.

    Inside a container, the path of the group may be the host's, whose folders aren't there; the container's own
    group is then the outermost folder.
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
