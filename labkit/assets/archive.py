"""Take files out of a downloaded archive, and nothing that would land elsewhere."""

from __future__ import annotations

import shutil
import stat
import zipfile
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from labkit.errors import LabkitError


def extract(archive: Path, patterns: Iterable[str], folder: Path) -> list[Path]:
    """Write the members of a zip file that match ``patterns`` into ``folder``, under their base names.

    Raises:
        LabkitError: a matching member has a path that leads out of the folder, or is a link; or no member matches.
    """
    taken = []
    with zipfile.ZipFile(archive) as bundle:
        for member in bundle.infolist():
            path = PurePosixPath(member.filename)
            if not any(path.match(pattern) for pattern in patterns):  # here "*" stays within one folder
                continue
            is_link = stat.S_ISLNK(member.external_attr >> 16)
            if path.is_absolute() or ".." in path.parts or "\\" in member.filename or is_link:
                raise LabkitError(
                    f"{archive.name} holds a member that points out of its folder: {member.filename!r}.",
                    "Do not use this archive: fetch it from a source that you trust.",
                )
            target = folder / path.name
            with bundle.open(member) as source, target.open("wb") as sink:
                shutil.copyfileobj(source, sink, 1 << 20)
            taken.append(target)
    if not taken:
        raise LabkitError(
            f"{archive.name} holds no file that matches {', '.join(patterns)}.",
            "Report this: the manifest of assets names the wrong files.",
        )
    return taken
