"""Text that any terminal can show, even with an old character encoding such as cp1252."""

from __future__ import annotations

import codecs
import sys

# The characters beyond ASCII that labkit prints, and their replacements in encodings that lack them.
ASCII = {
    "→": "->",
    "✗": "x",
    "✓": "v",
    "○": "o",
    "█": "#",
    "│": "|",
    "▲": "^",
    "▼": "v",
    "↵": "/",
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
    """Replace what cannot be encoded: labkit's own symbols by ASCII, all else, such as in a path, by escapes."""
    if not isinstance(problem, UnicodeEncodeError):
        raise problem
    lost = problem.object[problem.start : problem.end]
    escaped = (ASCII.get(sign) or sign.encode("ascii", "backslashreplace").decode("ascii") for sign in lost)
    return "".join(escaped), problem.end


codecs.register_error(HANDLER, _in_ascii)


def make_printable() -> None:
    """Let ``print`` write a legible replacement for a character that a stream cannot encode, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if getattr(stream, "errors", None) in ("strict", "backslashreplace") and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors=HANDLER)


def printable(text: str) -> str:
    """Return ``text`` as standard output can show it."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    try:
        return text.encode(encoding, HANDLER).decode(encoding)
    except (LookupError, UnicodeError):  # a custom stream, with an encoding that Python doesn't know
        return text
