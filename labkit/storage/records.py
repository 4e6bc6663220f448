"""The file in each folder of labkit's that says what the folder is, and in which version of the format."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from labkit.errors import LabkitError
from labkit.storage.cache import write_text

FILE = "run.json"
VERSION = 1  # of the format; records from before there was one are version 0
# What file managers and Jupyter put into a folder that they show.
LITTER = {".DS_Store", "Thumbs.db", "desktop.ini", ".ipynb_checkpoints"}


def stamped(kind: str, content: dict) -> dict:
    """Return ``content`` with what it is and the version of its format."""
    return {"format": f"labkit {kind}", "version": VERSION, **content}


def read_json(path: Path, kind: str, keys: Collection[str]) -> dict:
    """Return the record of a ``kind`` from a JSON file.

    Raises:
        LabkitError: the file is missing or damaged, is something else, lacks one of ``keys``, or has a newer format.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as problem:
        raise damaged(path, _reason(problem)) from problem
    if not is_record(record, kind, ()):
        raise damaged(path, f"it is not the record of a labkit {kind}")
    version = record.get("version", 0)
    if type(version) is not int or version < 0:
        raise damaged(path, f"its version is {version!r}")
    if version > VERSION:
        raise LabkitError(
            f"{path} was written by a newer labkit: its format has version {version}, and this labkit knows those up "
            f"to {VERSION}.",
            "Update labkit to read it.",
        )
    if missing := sorted(set(keys) - record.keys()):
        raise damaged(path, f"it lacks {', '.join(missing)}")
    return record


def is_record(record: object, kind: str, keys: Collection[str]) -> bool:
    """Say whether what a JSON file holds is a record of a kind; one of version 0 is known by its ``keys``."""
    if not isinstance(record, dict):
        return False
    return record["format"] == f"labkit {kind}" if "format" in record else record.keys() >= set(keys)


def read_tensors(path: Path, device: torch.device | str = "cpu") -> dict[str, torch.Tensor]:
    """Return the tensors of a safetensors file, or raise a ``LabkitError`` that says what is wrong with it."""
    try:
        return load_file(path, device=str(device))
    except (OSError, SafetensorError) as problem:
        raise damaged(path, _reason(problem)) from problem


class DamagedError(LabkitError):
    """A file is missing, half there, or not what its folder needs."""


def damaged(path: Path, reason: str) -> DamagedError:
    """Return the error for a file that cannot be used."""
    return DamagedError(
        f"{path} cannot be used: {reason}.",
        f"Restore {path.name} from a copy of the whole folder, or remove the folder and train again.",
    )


def strangers(folder: Path, files: Collection[str]) -> list[str]:
    """Return what lies in a folder beside ``files``, as paths relative to it."""
    found = (path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())
    relative = (path.relative_to(folder) for path in found)
    return sorted(path.as_posix() for path in relative if path.as_posix() not in files and not LITTER & {*path.parts})


def require_ours(folder: Path, kind: str, keys: Collection[str], files: Collection[str], *, half: bool = False) -> None:
    """Raise a ``LabkitError`` unless labkit wrote a folder, and nobody else put anything into it.

    Args:
        folder: the folder that is to be replaced.
        kind: what it must hold.
        keys: what a record of version 0 has.
        files: what labkit wrote into a folder of version 0; later records list their files.
        half: take a folder whose record is missing or damaged for ours, too, where it holds ``files`` alone.
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


def write_record(folder: Path, kind: str, content: dict) -> None:
    """Write the record of a folder whose other files are there already; it lists them."""
    files = sorted([FILE, *(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())])
    write_text(folder / FILE, json.dumps(stamped(kind, {**content, "files": files}), indent=1, default=list) + "\n")


def _reason(problem: Exception) -> str:
    if isinstance(problem, FileNotFoundError):
        return "it is missing"
    if isinstance(problem, UnicodeError):
        return "it is not a text in UTF-8"
    if isinstance(problem, OSError):
        return problem.strerror or str(problem)
    return f"it is damaged ({str(problem) or type(problem).__name__})"
