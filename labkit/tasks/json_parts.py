"""Find the parts of a long JSON text: the elements of an array, and the lists in an object."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice

from labkit.tasks.json_lines import Decoder, skip


def is_dense(text: str, begin: int) -> bool:
    """Return whether the first two elements share a line, so that a line number does not identify an element."""
    try:
        first, second = islice(elements(text, begin, Decoder()), 2)
    except ValueError:  # fewer than two, or not JSON
        return False
    return "\n" not in text[first[0] : second[0]]


def elements(text: str, begin: int, decoder: Decoder) -> Iterator[tuple[int, int, dict | None, str]]:
    """Yield the begin and end of each element of an array, its object or None, and what is wrong with it."""
    position = skip(text, begin + 1)
    if text.startswith("]", position):
        return
    while True:
        row, end, what = decoder.object_at(text, position)
        yield position, end, row, what
        position = skip(text, end)
        if text.startswith("]", position):
            return
        if not text.startswith(",", position):
            raise json.JSONDecodeError("a comma or ] is missing", text, position)
        position = skip(text, position + 1)
        if text.startswith("]", position):
            raise json.JSONDecodeError("a comma stands before the ]", text, position)


def lists_in_object(text: str, begin: int) -> tuple[dict[str, int], json.JSONDecodeError | None]:
    """Return where each list of objects in an object begins, and what is wrong after the last of them."""
    lists: dict[str, int] = {}
    decoder, position = Decoder(), skip(text, begin + 1)
    try:
        while not text.startswith("}", position):
            if not text.startswith('"', position):
                raise json.JSONDecodeError("a key in quotes is missing", text, position)
            key, position = decoder.raw_decode(text, position)
            if not text.startswith(":", colon := skip(text, position)):
                raise json.JSONDecodeError("a colon is missing", text, colon)
            position = skip(text, colon + 1)
            if text.startswith("[", position) and text.startswith("{", skip(text, position + 1)):
                lists[key] = position
                for _, end, *_ in elements(text, position, decoder):
                    position = end  # no object is kept: there may be a million
                position = skip(text, position) + 1
            else:
                _, position = decoder.raw_decode(text, position)
            position = skip(text, position)
            if text.startswith(",", position):
                position = skip(text, position + 1)
            elif not text.startswith("}", position):
                raise json.JSONDecodeError("a comma or } is missing", text, position)
        if (rest := skip(text, position + 1)) < len(text):
            raise json.JSONDecodeError("more follows the object", text, rest)
    except json.JSONDecodeError as problem:
        return lists, problem
    return lists, None
