"""Names for folders that work on every operating system."""

from __future__ import annotations

import os
import re
from pathlib import Path

from labkit.errors import LabkitError

FORBIDDEN = re.compile(r'[<>:"/\\|?*\x00-\x1f\x7f]')
DEVICES = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³])(\..*)?", re.IGNORECASE)
LONGEST = 200  # bytes; file systems allow 255, and temporary names are a little longer
RULE = (
    'A name has at most 200 bytes and none of the characters < > : " / \\ | ? *, neither begins nor ends with a dot or '
    "a space, and is not the name of a device on Windows, such as con or nul."
)


def as_path(name: str | Path) -> Path:
    """Return a path with ``~`` expanded.

    Raises:
        LabkitError: it is neither a text nor a path, or the home folder for ``~`` is not known.
    """
    try:
        path = Path(name).expanduser()
    except (TypeError, RuntimeError) as problem:
        raise LabkitError(
            f"{name!r} names no folder: {str(problem).rstrip('.')}.", "Give a name or a path."
        ) from problem
    if "\0" in str(path):
        raise LabkitError(f"{name!r} contains a NUL character.", "Remove it.")
    return path


def require_new_name(name: str | Path) -> None:
    """Raise a ``LabkitError`` if some system cannot create such a folder, or the name would mean something else there.

    A path may lead anywhere except upwards; its last part must be a plain name.
    """
    path = as_path(name)
    if ".." in path.parts:
        raise LabkitError(f"{str(name)!r} leads upwards with '..'.", f"Write the path in full: {_in_full(path)}")
    last = path.name
    if not last.strip(" .") or str(name) in ("~", "."):
        raise LabkitError(f"{str(name)!r} is not a name for a new folder.", "Give it a name, such as 'first-try'.")
    if fault := _fault(last):
        raise LabkitError(f"{last!r} {fault}, so some systems reject it as the name of a folder.", RULE)


def _fault(name: str) -> str:
    try:
        length = len(name.encode())
    except UnicodeEncodeError:
        return "contains half a character (a lone surrogate)"
    if found := FORBIDDEN.search(name):
        return f"contains the character {found.group()!r}"
    if name != name.strip(" ") or name.endswith("."):
        return "begins or ends with a space, or ends with a dot"
    if name.startswith("."):
        return "begins with a dot"
    if DEVICES.fullmatch(name):
        return "is the name of a device on Windows"
    return f"is {length} bytes long" if length > LONGEST else ""


def _in_full(path: Path) -> str:
    return os.path.normpath(path.absolute())
