"""Where runs and checkpoints are kept: a plain name means a folder under LABKIT_HOME, a path is used as it is."""

from __future__ import annotations

from pathlib import Path

from labkit.storage import cache, names


def new_place(name: str | Path, kind: str) -> Path:
    """Return the folder to write to.

    Args:
        name: a plain name is kept under LABKIT_HOME, in the folder ``kind``; a path is taken as it is.
        kind: ``"runs"`` or ``"checkpoints"``.

    Raises:
        LabkitError: the name doesn't suit a folder.
    """
    names.require_new_name(name)
    return place(name, kind)


def place(name: str | Path, kind: str) -> Path:
    """Return the folder to read from: as ``new_place`` does, but without checking the name."""
    path = names.as_path(name)
    return cache.home() / kind / path if path.name == str(name) else path
