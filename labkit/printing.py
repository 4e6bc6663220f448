"""Text that any terminal can show, also one whose character set is an old code page such as cp1252."""

from __future__ import annotations

import codecs
import sys

# What labkit prints beyond ASCII, and what stands for it where a character set has no such character.
ASCII = {
    "→": "->",
    "✗": "x",
    "✓": "v",
    "○": "o",
    "█": "#",
    "·": "*",
    "×": "x",
    "−": "-",
    "–": "-",
    "—": "-",
    "…": "...",
}
ASCII |= {"≤": "<=", "≥": ">=", "±": "+-", "≈": "~", "²": "^2", "³": "^3", "√": "sqrt", "α": "alpha"}
HANDLER = "labkit"


def _in_ascii(problem: UnicodeError) -> tuple[str, int]:
    """Stand in for what cannot be encoded: ASCII for labkit's own signs, escapes for all else, such as a path's."""
    if not isinstance(problem, UnicodeEncodeError):
        raise problem
    lost = problem.object[problem.start : problem.end]
    escaped = (ASCII.get(sign) or sign.encode("ascii", "backslashreplace").decode("ascii") for sign in lost)
    return "".join(escaped), problem.end


codecs.register_error(HANDLER, _in_ascii)


def make_printable() -> None:
    """Have ``print`` write something legible in place of a character that a stream lacks, and raise no error."""
    for stream in (sys.stdout, sys.stderr):
        if getattr(stream, "errors", None) in ("strict", "backslashreplace") and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors=HANDLER)


def printable(text: str) -> str:
    """Return ``text`` as standard output can show it."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    try:
        return text.encode(encoding, HANDLER).decode(encoding)
    except (LookupError, UnicodeError):  # a stream of one's own, with an encoding that Python doesn't know
        return text
