"""Read a JSON array of objects, one object after the other."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator
from itertools import islice

from labkit.errors import LabkitError
from labkit.tasks.faults import Faults
from labkit.tasks.json_lines import EXAMPLE, Decoder, object_in_line, read_jsonl, reason_of, skip
from labkit.tasks.json_parts import elements, is_dense, lists_in_object
from labkit.tasks.lines import Lines

FIX = f"Write an array of objects, such as [{EXAMPLE}, …]; of a DataFrame, df.to_json(path, orient='records')."


def read_json(text: str, faults: Faults, notes: list[str]) -> Iterator[tuple[int, dict]]:
    """Yield each object of an array with the number of the line where it begins.

    The array may be the only list of objects in an object, or there may be one object per line; then a note says so.

    Raises:
        LabkitError: there is no array of objects.
    """
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    begin = skip(text, 0)
    if text.startswith("[", begin):
        end = yield from _read_array(text, begin, faults)
        if end and (rest := skip(text, end)) < len(text):
            line = text.count("\n", 0, rest) + 1
            faults.add(line, f"more follows the array in line {line}: {text[rest : rest + 60]!r}", FIX)
    elif text.startswith("{", begin):
        yield from _read_object(text, begin, faults, notes)
    elif begin < len(text):
        line = text.count("\n", 0, begin) + 1
        raise LabkitError(f"{faults.name} is not JSON; line {line} begins {text[begin : begin + 60]!r}.", FIX)


def _read_object(text: str, begin: int, faults: Faults, notes: list[str]) -> Iterator[tuple[int, dict]]:
    lists, problem = lists_in_object(text, begin)
    if problem and _has_objects_in_lines(text, bool(lists)):
        notes.append("the file is not a JSON array: it has one object per line and was read as JSON lines")
        yield from read_jsonl(text, faults, notes)
    elif len(lists) == 1:
        [(key, start)] = lists.items()
        notes.append(f"the file is one JSON object, and its list {key!r} was read")
        end = yield from _read_array(text, start, faults)
        if end and problem:
            faults.add(problem.lineno, f"not JSON: {reason_of(problem)}", FIX)
    elif problem:
        raise LabkitError(f"{faults.name} is not JSON: line {problem.lineno}, {reason_of(problem)}.", FIX)
    else:
        found = f"several lists of objects: {', '.join(lists)}" if lists else "no list of objects"
        raise LabkitError(f"{faults.name} is one JSON object with {found}, and not an array of objects.", FIX)


def _has_objects_in_lines(text: str, has_lists: bool) -> bool:
    """Return whether this is one object per line, and not one object whose list has one element per line."""
    decoder = Decoder()
    if has_lists and not next(Lines(text.lstrip())).rstrip().endswith("}"):
        return False
    found = [
        object_in_line(decoder, line)[0] is not None for begin in islice(Lines(text), 20) if (line := begin.strip())
    ]
    return sum(found) > len(found) / 2


def _read_array(text: str, begin: int, faults: Faults) -> Generator[tuple[int, dict], None, int | None]:
    """Yield the objects of the array at ``begin``; return where it ends, or None if that is unknown.

    Their numbers are the lines where they begin or, if a line holds several, the elements' numbers.
    """
    unreadable = frozenset(faults.rows)
    by_element = not unreadable and is_dense(text, begin)
    if by_element:
        faults.place = "element {number}"
    number, counted = 0 if by_element else 1, 0  # ``counted``: the position up to which lines are counted
    end = begin + 1
    try:
        for start, end, row, what in elements(text, begin, Decoder()):
            number += 1 if by_element else text.count("\n", counted, start)
            counted = start
            if row is None:
                faults.add(number, what, FIX)
            elif not unreadable or unreadable.isdisjoint(range(number, number + text.count("\n", start, end) + 1)):
                yield number, row
    except json.JSONDecodeError as problem:
        number = number + 1 if by_element else problem.lineno
        faults.add(number, f"not JSON from here on ({reason_of(problem)})", FIX)
        faults.cut = True
        return None
    return skip(text, end) + 1
