"""Records: the file in each folder that labkit writes, with the kind of folder and the version of its format."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from labkit.errors import LabkitError
from labkit.storage.files import write_text

FILE = "run.json"
VERSION = 1  # of the format; records without a version are version 0


def stamped(kind: str, content: dict) -> dict:
    """Return ``content`` with its kind and the version of its format."""
    return {"format": f"labkit {kind}", "version": VERSION, **content}


def read_json(path: Path, kind: str, keys: Collection[str]) -> dict:
    """Return the record of a ``kind`` from a JSON file.

    Raises:
        LabkitError: the file is missing or damaged, is not such a record, lacks one of ``keys``, or has a newer format.
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
            f"{path} was written by a newer labkit: its format has version {version}, and this labkit reads those "
            f"up to {VERSION}.",
            "Update labkit to read it.",
        )
    if missing := sorted(set(keys) - record.keys()):
        raise damaged(path, f"it lacks {', '.join(missing)}")
    return record


def is_record(record: object, kind: str, keys: Collection[str]) -> bool:
    """Return whether the content of a JSON file is a record of a kind; version 0 is recognized by its ``keys``."""
    if not isinstance(record, dict):
        return False
    return record["format"] == f"labkit {kind}" if "format" in record else record.keys() >= set(keys)


def read_tensors(path: Path, device: torch.device | str = "cpu") -> dict[str, torch.Tensor]:
    """Return the tensors of a safetensors file; raise a ``LabkitError`` if it is missing or damaged."""
    try:
        return load_file(path, device=str(device))
    except (OSError, SafetensorError) as problem:
        raise damaged(path, _reason(problem)) from problem


class DamagedError(LabkitError):
    """A file is missing, incomplete, or not what its folder needs."""


def damaged(path: Path, reason: str) -> DamagedError:
    """Return the error for a file that cannot be used."""
    return DamagedError(
        f"{path} cannot be used: {reason}.",
        f"Restore {path.name} from a copy of the whole folder, or remove the folder and train again.",
    )


def write_record(folder: Path, kind: str, content: dict) -> None:
    """Write the record of a folder after all its other files; the record lists them."""
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
