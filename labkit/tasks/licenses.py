"""The licence task: from the opening of a software licence to its category."""

from __future__ import annotations

import fnmatch
import re
import zipfile
from pathlib import Path

CATEGORIES = {
    "Permissive": "permissive",
    "Copyleft": "copyleft",
    "Copyleft Limited": "limited copyleft",
    "Proprietary Free": "proprietary",
    "Commercial": "commercial",
    "Free Restricted": "restricted",
    "Source-available": "source-available",
}
MAX_CHARACTERS = 600


def license_rows(archive: Path, pattern: str) -> list[dict]:
    """Return one row for each English licence text in a known category, cut to its opening."""
    rows = []
    with zipfile.ZipFile(archive) as bundle:
        for name in sorted(fnmatch.filter(bundle.namelist(), pattern)):
            header, _, body = bundle.read(name).decode("utf-8").removeprefix("---\n").partition("\n---")
            fields = dict(re.findall(r"^(\w+): (.*)$", header, re.MULTILINE))
            label = CATEGORIES.get(fields.get("category", ""))
            text = " ".join(body.split())
            unusable = {"is_deprecated", "is_generic", "is_unknown", "language"} & fields.keys()
            if label is None or unusable or len(text) < 40:
                continue
            if len(text) > MAX_CHARACTERS:
                text = text[:MAX_CHARACTERS].rsplit(" ", 1)[0] + " …"
            rows.append({"id": fields["key"], "text": text, "label": label})
    return rows
