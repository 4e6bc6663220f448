"""The kept runs on this computer: what they are and how much they hold, and how they are removed."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from labkit.errors import LabkitError, unknown
from labkit.runs import unfinished
from labkit.runs.keep import require_ours
from labkit.runs.places import place
from labkit.storage import cache, folders, records


def kept_runs() -> list[tuple[str, Path, int, str]]:
    """Return the name, the folder, the bytes and a description of each run under LABKIT_HOME/kept."""
    found = []
    for name in _names():
        for folder in _folders(cache.home() / "kept" / name):
            size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
            found.append((name, folder, size, _describe(folder)))
    return found


def remove_kept(name: str | Path) -> int:
    """Remove all runs that are kept under a name, and return their bytes. Only what labkit wrote is removed.

    Raises:
        LabkitError: there is no such name, or somebody else put something into a run's folder.
    """
    shelf = place(name, "kept")
    if not _folders(shelf):
        raise unknown("name of kept runs", str(name), _names())
    removed = 0
    for folder in _folders(shelf):
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        if folder.name.endswith(unfinished.UNFINISHED):
            unfinished.remove(folder)
        else:
            require_ours(folder)
            folders.discard(folder)
        removed += size
    with suppress(OSError):
        shelf.rmdir()
    return removed


def _names() -> list[str]:
    kept = cache.home() / "kept"
    return sorted(path.name for path in kept.iterdir() if _folders(path)) if kept.is_dir() else []


def _folders(shelf: Path) -> list[Path]:
    if not shelf.is_dir():
        return []
    folders.recover(shelf)
    return sorted(path for path in shelf.iterdir() if path.is_dir() and not path.name.startswith("."))


def _describe(folder: Path) -> str:
    if folder.name.endswith(unfinished.UNFINISHED):
        return "stopped before its end"
    try:
        record = records.read_json(folder / records.FILE, "run", ("method", "base", "task", "history"))
        return (
            f"{record['method']['name']} on {record['base']['name']}, {record['task']}, {len(record['history'])} steps"
        )
    except (LabkitError, LookupError, TypeError) as problem:
        return getattr(problem, "cause", f"its record is damaged ({type(problem).__name__})")
