"""Create, replace and remove folders in one step, even if the process is killed meanwhile."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock

from labkit.errors import LabkitError
from labkit.storage.cache import home, locked
from labkit.storage.files import sync, writing_to

OLD, NEW = ".labkit-old", ".labkit-new"  # suffixes of folders on their way out and in
DAY = 86400  # seconds


@contextmanager
def new_folder(
    final: Path, *, replace: bool = False, check: Callable[[Path], None] = lambda folder: None
) -> Iterator[Path]:
    """Yield a temporary folder that becomes ``final`` when the block ends without an exception.

    After ``recover``, readers see the old folder or the complete new one, even if the process was killed or the power
    failed: the new one is on the disk before it takes the name, and the old one is removed last. A folder cannot be
    renamed onto another one, so between two renames no folder has the name; ``recover`` then restores the old one.

    Args:
        final: the folder to create, together with its parents.
        replace: replace an existing folder of that name; without it, that is an error.
        check: raises a ``LabkitError`` if the existing folder must stay.

    Raises:
        LabkitError: something there must stay, or nothing can be written.
    """
    final = final.parent.resolve() / final.name
    with writing_to(final.parent):
        recover(final.parent)
        _require_free(final, replace, check)
        for leftover in leftovers(final.parent, ".+"):
            with suppress(FileNotFoundError):  # another process may have finished it
                if time.time() - leftover.stat().st_mtime > DAY:  # writing one folder never takes that long
                    shutil.rmtree(leftover, ignore_errors=True)
        temporary = _temporary(final)
        try:
            yield temporary
            for path in [*temporary.rglob("*"), temporary]:
                sync(path)
            with _swapping(final):
                _require_free(final, replace, check)  # another process may have been faster
                _swap(temporary, final)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def recover(parent: Path) -> None:
    """Restore the names of folders in ``parent`` that a killed process had put aside.

    Readers call this if a folder is missing. If another process is just replacing the folder, this waits for it.
    """
    for aside in parent.glob(f".*{OLD}"):
        final = parent.resolve() / aside.name[1 : -len(OLD)]
        if aside.is_dir() and not os.path.lexists(final):
            with writing_to(parent), _swapping(final):
                if aside.is_dir() and not os.path.lexists(final):  # its own process may have gone on meanwhile
                    os.replace(aside, final)


def discard(folder: Path, name: str = "") -> None:
    """Remove a folder in such a way that, if this is interrupted, the rest is not mistaken for a whole one."""
    trash = _temporary(folder.with_name(name or folder.name))
    try:
        os.replace(folder, trash / "old")
    finally:
        shutil.rmtree(trash, ignore_errors=True)


def leftovers(parent: Path, name: str) -> list[Path]:
    """Return the temporary folders that killed processes left behind, if the final name matches ``name``, a regex."""
    pattern = re.compile(rf"\.({name})\.[a-z0-9_]{{8}}{re.escape(NEW)}")
    return [path for path in parent.glob(f".*{NEW}") if pattern.fullmatch(path.name) and not path.is_symlink()]


def _temporary(final: Path) -> Path:
    return Path(tempfile.mkdtemp(prefix=f".{final.name}.", suffix=NEW, dir=final.parent))


def _require_free(final: Path, replace: bool, check: Callable[[Path], None]) -> None:
    if final.is_symlink():
        raise LabkitError(f"{final} is a link.", "Name the folder that it points to, or remove the link.")
    if not final.exists():
        return
    if not replace:
        raise LabkitError(f"{final} exists already.", "Choose another name, or pass overwrite=True to replace it.")
    if not final.is_dir():
        raise LabkitError(f"{final} is a file, and a folder is needed.", "Choose another name, or move the file.")
    check(final)


def _swap(temporary: Path, final: Path) -> None:
    aside = final.with_name(f".{final.name}{OLD}")
    if os.path.lexists(aside):  # a process was killed after the new folder had got its name
        discard(aside, final.name)
    try:
        if final.exists():
            os.replace(final, aside)
        os.replace(temporary, final)
    finally:
        if aside.exists() and not final.exists():
            os.replace(aside, final)
    sync(final.parent)
    if aside.exists():
        with suppress(OSError):  # Windows does not remove open files; the next swap tries again
            discard(aside, final.name)


@contextmanager
def _swapping(final: Path) -> Iterator[None]:
    """Lock out other processes while no folder has the name. All folders share 256 locks, to keep their files few."""
    name = f"folder-{hashlib.sha256(os.fsencode(final)).hexdigest()[:2]}"
    locks = home() / "locks"
    with suppress(OSError):
        locks.mkdir(parents=True, exist_ok=True)
    if os.access(locks, os.W_OK):
        with locked(name):
            yield
    else:  # a read-only cache, and a folder outside it
        with FileLock(final.parent / ".labkit-lock"):
            yield
