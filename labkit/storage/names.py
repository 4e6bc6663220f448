"""Names that every system can give a folder."""

from __future__ import annotations

import os
import re
from pathlib import Path

from labkit.errors import LabkitError

FORBIDDEN = re.compile(r'[<>:"/\\|?*\x00-\x1f\x7f]')
DEVICES = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³])(\..*)?", re.IGNORECASE)
LONGEST = 200  # bytes; file systems allow 255, and temporary names are a little longer
RULE = (
    'A name has no more than 200 bytes, none of the characters < > : " / \\ | ? *, no dot in front and no dot or space '
    "at the end, and is not one that Windows keeps for a device, such as con or nul."
)


def as_path(name: str | Path) -> Path:
    """Return a path with ``~`` written out.

    Raises:
        LabkitError: it is neither a text nor a path, or the home folder of ``~`` is not known.
    """
    try:
        path = Path(name).expanduser()
    except (TypeError, RuntimeError) as problem:
        raise LabkitError(
            f"{name!r} names no folder: {str(problem).rstrip('.')}.", "Give a name or a path."
        ) from problem
    if "\0" in str(path):
        raise LabkitError(f"{name!r} has a character with the number 0.", "Leave it out.")
    return path


def require_new_name(name: str | Path) -> None:
    """Raise a ``LabkitError`` where a folder of this name could not be made everywhere, or would be a surprise.

    A path may lead anywhere but upwards; its last part must be a plain name.
    """
    path = as_path(name)
    if ".." in path.parts:
        raise LabkitError(f"{str(name)!r} leads upwards with '..'.", f"Write the path in full: {_in_full(path)}")
    last = path.name
    if not last.strip(" .") or str(name) in ("~", "."):
        raise LabkitError(f"{str(name)!r} is no name for a folder of its own.", "Give it a name, such as 'first-try'.")
    if fault := _fault(last):
        raise LabkitError(f"{last!r} {fault}, which not every system takes as the name of a folder.", RULE)


def _fault(name: str) -> str:
    try:
        length = len(name.encode())
    except UnicodeEncodeError:
        return "has half a character"
    if found := FORBIDDEN.search(name):
        return f"has the character {found.group()!r}"
    if name != name.strip(" ") or name.endswith("."):
        return "begins or ends with a space, or ends with a dot"
    if name.startswith("."):
        return "begins with a dot"
    if DEVICES.fullmatch(name):
        return "is what Windows calls a device"
    return f"is {length} bytes long" if length > LONGEST else ""


def _in_full(path: Path) -> str:
    return os.path.normpath(path.absolute())
