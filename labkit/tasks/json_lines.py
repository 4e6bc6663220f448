"""Read JSON lines: one object per line."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from typing import Any

from labkit.errors import LabkitError
from labkit.tasks.faults import Faults
from labkit.tasks.lines import Lines

EXAMPLE = '{"prompt": "…", "completion": "…"}'
LINE_FIX = f"Write one object per line, such as {EXAMPLE}."
SPACE = re.compile(r"[ \t\n\r]+")  # what JSON takes for white space
KINDS = {list: "array", str: "string", int: "number", float: "number", type(None): "null", bool: "truth value"}


class Decoder(json.JSONDecoder):
    """Decodes JSON, keeps each key in memory only once, and notices if an object has a key twice."""

    def __init__(self) -> None:
        super().__init__(object_pairs_hook=self._object)
        self.has_doubles = False

    def _object(self, pairs: list[tuple[str, object]]) -> dict:
        row = {sys.intern(key): value for key, value in pairs}
        if len(row) < len(pairs):
            self.has_doubles = True
        return row

    def raw_decode(self, s: str, idx: int = 0) -> tuple[Any, int]:
        """Return the value that begins at ``idx``, and where it ends; raise only a JSONDecodeError."""
        self.has_doubles = False
        try:
            return super().raw_decode(s, idx)
        except json.JSONDecodeError:
            raise
        except (ValueError, RecursionError) as problem:  # a number of 5,000 digits, a hundred thousand brackets
            raise json.JSONDecodeError(str(problem), s, idx) from problem

    def object_at(self, text: str, position: int) -> tuple[dict | None, int, str]:
        """Return the object that begins at a position or None, where it ends, and what is wrong with it."""
        value, end = self.raw_decode(text, position)
        if isinstance(value, dict) and not self.has_doubles:
            return value, end, ""
        begin = repr(text[position : min(end, position + 60)])
        if self.has_doubles:
            return None, end, f"not a JSON object: {begin} (a key comes twice)"
        return None, end, f"a JSON {KINDS[type(value)]}, not an object: {begin}"


def read_jsonl(text: str, faults: Faults, notes: list[str]) -> Iterator[tuple[int, dict]]:
    """Yield the object in each line with the line's number.

    Raises:
        LabkitError: the file is one JSON value, or its objects extend over several lines.
    """
    decoder, lines, unreadable = Decoder(), Lines(text), frozenset(faults.rows)
    proven = False  # that this is a file of lines
    for line in lines:
        if not (line := line.strip()):
            continue
        row, what = object_in_line(decoder, line)
        if row is None:
            if not proven:
                _refuse_one_value(text, faults.name)
            faults.add(lines.number, what, LINE_FIX)
        elif lines.number not in unreadable:
            yield lines.number, row
        proven = True


def object_in_line(decoder: Decoder, line: str) -> tuple[dict | None, str]:
    """Return the object that a line holds, or None and what is wrong."""
    try:
        row, end, what = decoder.object_at(line, 0)
        if row is None or end == len(line):
            return row, what
        reason = f"more follows at column {end + 1}"
    except json.JSONDecodeError as problem:
        reason = reason_of(problem)
    return None, f"not a JSON object: {line[:60]!r} ({reason})"


def skip(text: str, position: int) -> int:
    """Return where the white space at a position ends; without any, that is the position itself."""
    space = SPACE.match(text, position)
    return space.end() if space else position


def reason_of(problem: json.JSONDecodeError) -> str:
    """Return why a text is not JSON."""
    if problem.doc[problem.pos : problem.pos + 1] == "\0":
        return "it holds a NUL character"
    return f"{problem.msg.removesuffix(' at')} at column {problem.colno}"


def _refuse_one_value(text: str, name: str) -> None:
    begin = skip(text, 0)
    try:
        value, end = json.JSONDecoder().raw_decode(text, begin)
    except (ValueError, RecursionError):
        return
    rest = text[end:].strip()
    if isinstance(value, list) and not rest:
        cause = f"{name} is one JSON array of {len(value):,} values, and not one object per line."
        raise LabkitError(cause, "Rename it so that it ends with .json, or write one object per line.")
    if isinstance(value, dict) and len(text[begin:end].splitlines()) > 1:
        what = "has JSON objects over several lines each" if rest else "is one JSON object over several lines"
        raise LabkitError(f"{name} {what}.", "Write one object per line, for one example each.")
