"""Tell how a text file is encoded, and name the lines that are not."""

from __future__ import annotations

import codecs

from labkit.errors import LabkitError
from labkit.tasks.faults import Faults

# UTF-32 first: its mark begins with that of UTF-16.
MARKS = [
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
    (codecs.BOM_UTF8, "utf-8-sig"),
]


def decode(data: bytes, faults: Faults, notes: list[str]) -> str:
    """Return the text of a file in UTF-8, or in UTF-16 or UTF-32 if it begins with their mark.

    Lines that are not UTF-8 go to ``faults``; their text comes back with replacement characters.

    Raises:
        LabkitError: the file as a whole is no text in these encodings.
    """
    encoding = next((name for mark, name in MARKS if data.startswith(mark)), "utf-8")
    if encoding == "utf-8" and data[:1000].count(0) > len(data[:1000]) / 4:
        raise LabkitError(f"{faults.name} is not UTF-8; it looks like UTF-16 without its mark.", "Save it as UTF-8.")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as problem:
        if encoding in ("utf-16", "utf-32"):
            raise LabkitError(
                f"{faults.name} begins as {encoding.upper()} text, but isn't: {problem.reason}.", "Save it as UTF-8."
            ) from problem
    else:
        if encoding in ("utf-16", "utf-32"):
            notes.append(f"the file is encoded in {encoding.upper()} and was read as that")
        return text
    for number, line in enumerate(data.split(b"\n"), 1):
        try:
            line.decode("utf-8")
        except UnicodeDecodeError as problem:
            faults.add(number, _as_windows(line, problem), "Save the file again as UTF-8.")
    return data.decode(encoding, errors="replace")  # to look for what else is wrong


def _as_windows(line: bytes, problem: UnicodeDecodeError) -> str:
    near = line[max(0, problem.start - 20) : problem.start + 20]
    what = f"not UTF-8 (the byte 0x{line[problem.start]:02x})"
    try:
        return f"{what}; in cp1252, the encoding of Windows, it would read {near.decode('cp1252').strip()!r}"
    except UnicodeDecodeError:
        return what
