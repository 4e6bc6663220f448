"""Write files so that none is ever incomplete, and explain why one cannot be written."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from labkit.errors import LabkitError

REFUSALS = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.EISDIR}


@contextmanager
def writing_to(folder: Path) -> Iterator[Path]:
    """Create ``folder`` and turn the operating system's refusals inside the block into ``LabkitError``.

    Raises:
        LabkitError: the folder cannot be written to, or the disk is full.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield folder
    except (OSError, SafetensorError) as problem:
        code = getattr(problem, "errno", None)  # safetensors reports a full disk only in its message
        if code in {errno.ENOSPC, errno.EDQUOT} or "No space left" in str(problem):
            free = shutil.disk_usage(nearest_existing(folder)).free / 1e6
            raise LabkitError(
                f"The disk is full: {folder} has {free:.0f} MB left. Nothing was half-written.",
                "Free some space, or set LABKIT_HOME to a folder on a larger disk.",
            ) from problem
        if isinstance(problem, OSError) and code in REFUSALS:
            raise LabkitError(
                f"No files can be written in {folder} ({problem.strerror}).",
                "Set LABKIT_HOME to a folder that you may write to.",
            ) from problem
        raise


def nearest_existing(path: Path) -> Path:
    """Return ``path`` or its closest parent that exists."""
    return next(folder for folder in (path, *path.absolute().parents) if folder.exists())


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary name to write a file under; when the block ends without an error, the file takes its place.

    Raises:
        LabkitError: the folder cannot be written to, or the disk is full. What was there before stays.
    """
    path = path.resolve()  # a link stays, and its target is written
    with writing_to(path.parent):
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
        os.close(handle)
        try:
            yield Path(name)
            sync(Path(name))
            os.chmod(name, 0o644)  # temporary files are private at first
            os.replace(name, path)
            sync(path.parent)
        finally:
            Path(name).unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a file under a temporary name and move it into place, so that it is never incomplete."""
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as file:
        file.write(text)


def sync(path: Path) -> None:
    """Wait until a file, or a folder's list of names, is on the disk."""
    if path.is_dir() and os.name == "nt":  # Windows allows no sync of a folder, and needs none
        return
    handle = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as problem:
        if problem.errno not in {errno.EINVAL, errno.ENOTSUP}:  # some network drives cannot
            raise
    finally:
        os.close(handle)


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal, read in pieces of 1 MiB."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while piece := stream.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()
