"""Whether labkit wrote a folder, so that it may be replaced or removed."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path

from labkit.errors import LabkitError
from labkit.storage.records import FILE, is_record

# What file managers and Jupyter put into the folders that they show.
LITTER = {".DS_Store", "Thumbs.db", "desktop.ini", ".ipynb_checkpoints"}


def strangers(folder: Path, files: Collection[str]) -> list[str]:
    """Return the files in a folder that are not among ``files``, as paths relative to it."""
    found = (path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())
    relative = (path.relative_to(folder) for path in found)
    return sorted(path.as_posix() for path in relative if path.as_posix() not in files and not LITTER & {*path.parts})


def require_ours(folder: Path, kind: str, keys: Collection[str], files: Collection[str], *, half: bool = False) -> None:
    """Raise a ``LabkitError`` unless labkit wrote a folder, and nobody else put anything into it.

    Args:
        folder: the folder to replace or remove.
        kind: the kind of folder that it must be, such as ``"run"``.
        keys: the keys of a record of version 0.
        files: the files that labkit wrote into a folder of version 0; later records list their files.
        half: also accept a folder whose record is missing or damaged, if it holds only ``files``.
    """
    try:
        record = json.loads((folder / FILE).read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError):
        record = None
    if record is None and half:
        record = {}
    elif not is_record(record, kind, keys):
        raise LabkitError(
            f"{folder} is not the folder of a labkit {kind}: it has no {FILE} that says so. It was left as it is.",
            "Choose another name, or move the folder away yourself.",
        )
    listed = record.get("files")
    if odd := strangers(folder, listed if isinstance(listed, list) else files):
        raise LabkitError(
            f"{folder} holds {', '.join(odd[:3])}, which labkit did not write. It was left as it is.",
            "Move that elsewhere, or choose another name.",
        )
