"""Read a JSON array of objects, one object after the other."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator
from itertools import islice
from json.decoder import WHITESPACE

from labkit.errors import LabkitError
from labkit.tasks.faults import Faults
from labkit.tasks.json_lines import EXAMPLE, Decoder, object_in_line, read_jsonl, reason_of
from labkit.tasks.lines import Lines

FIX = f"Write an array of objects, such as [{EXAMPLE}, …]; of a DataFrame, df.to_json(path, orient='records')."


def read_json(text: str, faults: Faults, notes: list[str]) -> Iterator[tuple[int, dict]]:
    """Yield each object of an array with the line that it begins in.

    The array may be the only list of objects in an object, or there may be one object a line: ``notes`` says so.

    Raises:
        LabkitError: there is no array of objects.
    """
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    begin = _skip(text, 0)
    if text.startswith("[", begin):
        end = yield from _read_array(text, begin, faults)
        if end and (rest := _skip(text, end)) < len(text):
            faults.add(text.count("\n", 0, rest) + 1, f"more follows the array: {text[rest : rest + 60]!r}", FIX)
    elif text.startswith("{", begin):
        yield from _read_object(text, begin, faults, notes)
    elif begin < len(text):
        line = text.count("\n", 0, begin) + 1
        raise LabkitError(f"{faults.name} is no JSON; line {line} begins {text[begin : begin + 60]!r}.", FIX)


def _read_object(text: str, begin: int, faults: Faults, notes: list[str]) -> Iterator[tuple[int, dict]]:
    lists, problem = _lists_in_object(text, begin)
    if problem and _has_objects_in_lines(text, bool(lists)):
        notes.append("the file is no JSON array: it has one object a line and was read as that")
        yield from read_jsonl(text, faults, notes)
    elif len(lists) == 1:
        [(key, start)] = lists.items()
        notes.append(f"the file is one JSON object, and its list {key!r} was read")
        end = yield from _read_array(text, start, faults)
        if end and problem:
            faults.add(problem.lineno, f"no JSON: {reason_of(problem, text)}", FIX)
    elif problem:
        raise LabkitError(f"{faults.name} is no JSON: line {problem.lineno}, {reason_of(problem, text)}.", FIX)
    else:
        found = f"several lists of objects: {', '.join(lists)}" if lists else "no list of objects"
        raise LabkitError(f"{faults.name} is one JSON object with {found}, and not an array of objects.", FIX)


def _has_objects_in_lines(text: str, has_lists: bool) -> bool:
    """Return whether this is one object a line, and not one object whose list has an element a line."""
    decoder = Decoder()
    if has_lists and not next(Lines(text.lstrip())).rstrip().endswith("}"):
        return False
    found = [
        object_in_line(decoder, line)[0] is not None for begin in islice(Lines(text), 20) if (line := begin.strip())
    ]
    return sum(found) > len(found) / 2


def _read_array(text: str, begin: int, faults: Faults) -> Generator[tuple[int, dict], None, int | None]:
    """Yield the objects of the array at ``begin``; return where it ends, or None if that can't be told."""
    unreadable = frozenset(faults.rows)
    line, counted = 1, 0  # the line of the position up to which lines are counted
    end = begin + 1
    try:
        for start, end, row, what in _elements(text, begin, Decoder()):
            line, counted = line + text.count("\n", counted, start), start
            if row is None:
                faults.add(line, what, FIX)
            elif not unreadable or unreadable.isdisjoint(range(line, line + text.count("\n", start, end) + 1)):
                yield line, row
    except (ValueError, RecursionError) as problem:
        line = getattr(problem, "lineno", line + text.count("\n", counted, _skip(text, end)))
        faults.add(line, f"no JSON from here on ({reason_of(problem, text)})", FIX)
        return None
    return _skip(text, end) + 1


def _elements(text: str, begin: int, decoder: Decoder) -> Iterator[tuple[int, int, dict | None, str]]:
    """Yield where each element of an array begins and ends, the object there, and what is wrong if it is none."""
    position = _skip(text, begin + 1)
    if text.startswith("]", position):
        return
    while True:
        row, end, what = decoder.object_at(text, position)
        yield position, end, row, what
        position = _skip(text, end)
        if text.startswith("]", position):
            return
        if not text.startswith(",", position):
            raise json.JSONDecodeError("a comma or ] is missing", text, position)
        position = _skip(text, comma := position + 1)
        if text.startswith("]", position):
            raise json.JSONDecodeError("the last element has a comma", text, comma)


def _lists_in_object(text: str, begin: int) -> tuple[dict[str, int], json.JSONDecodeError | None]:
    """Return where each list of objects in an object begins, and what is wrong after the last of them."""
    decoder, lists, position = Decoder(), {}, _skip(text, begin + 1)
    try:
        while not text.startswith("}", position):
            if not text.startswith('"', position):
                raise json.JSONDecodeError("a key in quotes is missing", text, position)
            key, position = decoder.raw_decode(text, position)
            if not text.startswith(":", colon := _skip(text, position)):
                raise json.JSONDecodeError("a colon is missing", text, colon)
            position = _skip(text, colon + 1)
            if text.startswith("[", position) and text.startswith("{", _skip(text, position + 1)):
                lists[key] = position
                for _, end, *_ in _elements(text, position, decoder):
                    position = end  # no object is kept: there may be a million
                position = _skip(text, position) + 1
            else:
                _, position = decoder.raw_decode(text, position)
            position = _skip(text, position)
            if text.startswith(",", position):
                position = _skip(text, position + 1)
            elif not text.startswith("}", position):
                raise json.JSONDecodeError("a comma or } is missing", text, position)
        if (rest := _skip(text, position + 1)) < len(text):
            raise json.JSONDecodeError("more follows the object", text, rest)
    except json.JSONDecodeError as problem:
        return lists, problem
    except (ValueError, RecursionError) as problem:  # a number of thousands of digits, a hundred thousand brackets
        return lists, json.JSONDecodeError(str(problem), text, position)
    return lists, None


def _skip(text: str, position: int) -> int:
    """Return where the white space ends that begins at a position."""
    return WHITESPACE.match(text, position).end()
