"""Read a learner's file of examples, and name every line that can't be read."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

from labkit.errors import LabkitError
from labkit.tasks.encodings import decode
from labkit.tasks.faults import Faults

QUOTE_FIX = 'Put quotes around a whole text or not at all; inside it, write each twice: "a ""word""".'


def read_rows(path: Path, faults: Faults, notes: list[str]) -> tuple[list[tuple[int, dict]], list[str]]:
    """Return the rows of a ``.jsonl`` or ``.csv`` file, each with its line, and the names of its columns.

    Lines that can't be read go to ``faults``; what a reader should know, but can live with, to ``notes``.

    Raises:
        LabkitError: the file as a whole can't be read.
    """
    try:
        data = path.read_bytes()
    except OSError as problem:
        raise LabkitError(f"{path} can't be read: {problem.strerror}.", "Check the file and its rights.") from problem
    text = decode(data, faults, notes)
    return (read_csv if path.suffix.lower() == ".csv" else read_jsonl)(text, faults)


def read_jsonl(text: str, faults: Faults) -> tuple[list[tuple[int, dict]], list[str]]:
    """Return the object of each line with the line's number, and the names of all columns."""
    rows, columns = [], {}
    # Not splitlines(): a JSON string may hold a line separator such as U+2028 as it stands.
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        row, what = _parsed(line)
        if isinstance(row, dict):
            rows.append((number, row))
            columns |= dict.fromkeys(row)
            continue
        if not rows and not faults:
            _refuse_one_value(text, faults.name)
        faults.add(number, what, 'Write one object a line, such as {"prompt": "…", "completion": "…"}.')
    return rows, list(columns)


_KINDS = {list: "array", str: "string", int: "number", float: "number", type(None): "null", bool: "truth value"}


def _parsed(line: str) -> tuple[object, str]:
    """Return the value in a line (None where it is no JSON) and what would be wrong if that isn't an object."""
    begin = repr(line[:60])
    try:
        value = json.loads(line, object_pairs_hook=_without_doubles)
        return value, f"a JSON {_KINDS.get(type(value), 'value')}, not an object: {begin}"
    except json.JSONDecodeError as problem:
        reason = "it holds a NUL character" if "\0" in line else f"{problem.msg} at column {problem.colno}"
    except (ValueError, RecursionError) as problem:
        reason = str(problem)
    return None, f"not a JSON object: {begin} ({reason})"


def _without_doubles(pairs: list[tuple]) -> dict:
    if len(row := dict(pairs)) < len(pairs):
        raise ValueError("a key comes twice")
    return row


def _refuse_one_value(text: str, name: str) -> None:
    try:
        whole = json.loads(text)
    except (ValueError, RecursionError):
        return
    if isinstance(whole, list):
        raise LabkitError(
            f"{name} is one JSON array of {len(whole):,} values, and not one object a line.",
            "Write one object a line, or pass datasets.Dataset.from_list(json.load(open(path, encoding='utf-8'))).",
        )
    if isinstance(whole, dict):
        raise LabkitError(f"{name} is one JSON object over several lines.", "Write one object a line, one an example.")


def read_csv(text: str, faults: Faults) -> tuple[list[tuple[int, dict]], list[str]]:
    """Return each row as a dict with the number of its first line, and the names in the header."""
    lines = list(io.StringIO(text, newline=""))
    position = 0  # lines that the reader has taken

    def source():
        nonlocal position
        while position < len(lines):
            position += 1
            yield lines[position - 1]

    reader = csv.reader(source(), strict=True)  # not strict, it changes the text around a stray quote
    header: list[str] = []
    rows, long_rows, endings = [], [], set()
    while True:
        start = position
        try:
            cells = next(reader)
        except StopIteration:
            break
        except csv.Error as problem:
            if not header:
                raise LabkitError(f"{faults.name}, line 1: the header has a stray quote.", QUOTE_FIX) from problem
            faults.add(start + 1, *_why(str(problem), start + 1, position))
            position = start + 1  # what the quote has swallowed are rows
            reader = csv.reader(source(), strict=True)
            continue
        if not header:
            header = cells
            continue
        if not cells:  # an empty line
            continue
        if len(cells) < len(header) or any(cells[len(header) :]):
            what = f"{len(cells)} cells where the header has {len(header)}"
            faults.add(start + 1, what, "Put quotes around a text that holds a comma.")
            continue
        if position - start > 1:
            long_rows.append((start, position))
        else:
            endings.add(cells[len(header) - 1])
        rows.append((start + 1, dict(zip(header, cells, strict=False))))
    for start, end in long_rows:
        if swallowed := sum(line.rstrip("\r\n").rsplit(",", 1)[-1] in endings for line in lines[start : end - 1]):
            what = f"a quote opens here and closes in line {end}; it seems to swallow {swallowed} rows"
            faults.add(start + 1, what, QUOTE_FIX)
    if len(set(header)) < len(header):
        raise LabkitError(
            f"The header of {faults.name} has a column twice: {', '.join(header)}.", "Rename one of them."
        )
    return rows, header


def _why(problem: str, first: int, last: int) -> tuple[str, str]:
    """Return what is wrong with a row, and the fix, where the reader gave up between two lines."""
    if "limit" in problem and first == last:
        return f"a text of more than {csv.field_size_limit():,} characters", "Cut long texts into several examples."
    if "limit" in problem or "end of data" in problem:
        return f"a quote opens here and isn't closed; it swallows the lines up to {last}", QUOTE_FIX
    where = "" if first == last else f" in line {last}; it swallows the lines between"
    return f"a quote opens here and is closed in the middle of a text{where}", QUOTE_FIX


SUFFIXES = (".jsonl", ".json", ".csv", ".tsv", ".parquet")


def read_file(path, faults, notes):
    yield from read_rows(path, faults, notes)[0]
