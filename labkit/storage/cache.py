"""Where labkit keeps its files on this computer, whether it may use the network, and locks between processes."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import platformdirs
from filelock import FileLock, Timeout

from labkit.storage.files import writing_to

PATIENCE = 10  # seconds that a process waits for another one before it warns


def home() -> Path:
    """Return the folder for models, data and saved runs: ``LABKIT_HOME``, or the platform's cache folder."""
    configured = os.environ.get("LABKIT_HOME")
    return Path(configured).expanduser() if configured else platformdirs.user_cache_path("labkit")


def course_data() -> Path:
    """Return the folder of the course's own data: beside the package in a clone, inside it in a wheel."""
    package = Path(__file__).resolve().parents[1]
    return next(path for path in (package / "data", package.parent / "data") if path.is_dir())


def offline() -> bool:
    """Return whether ``LABKIT_OFFLINE`` or ``HF_HUB_OFFLINE`` forbids the network."""
    return any(
        os.environ.get(variable, "").lower() in {"1", "true", "yes", "on"}
        for variable in ("LABKIT_OFFLINE", "HF_HUB_OFFLINE")
    )


@contextmanager
def locked(name: str, waiting: str = "") -> Iterator[None]:
    """Hold a lock file, so that two processes do not fill the same part of the cache at once.

    Args:
        name: of the lock.
        waiting: what to warn of if another process holds the lock for longer than ``PATIENCE``.
    """
    with writing_to(home() / "locks") as folder:
        lock = FileLock(folder / f"{name}.lock")
        try:
            held = lock.acquire(timeout=PATIENCE if waiting else -1)
        except Timeout:
            warnings.warn(waiting, stacklevel=3)
            held = lock.acquire()
    with held:  # outside writing_to, which would blame the lock's folder for errors inside the block
        yield
