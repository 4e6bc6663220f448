"""Read a learner's file of examples, row by row, and name every line that can't be read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow
from pyarrow import parquet

from labkit.errors import LabkitError
from labkit.tasks.encodings import decode
from labkit.tasks.faults import Faults
from labkit.tasks.json_arrays import read_json
from labkit.tasks.json_lines import read_jsonl
from labkit.tasks.tables import read_csv, read_tsv

READERS = {".jsonl": read_jsonl, ".json": read_json, ".csv": read_csv, ".tsv": read_tsv}
SUFFIXES = (*READERS, ".parquet")


def read_file(path: Path, faults: Faults, notes: list[str]) -> Iterator[tuple[int, dict]]:
    """Yield the rows of a file, each as the number of the line it begins in and a dict of its columns.

    Rows that can't be read go to ``faults``, harmless peculiarities of the file to ``notes``. Both are complete once
    the last row is read. The rows of a ``.parquet`` file are counted from 1, because it has no lines.

    Args:
        path: a ``.jsonl``, ``.json``, ``.csv``, ``.tsv`` or ``.parquet`` file.
        faults: takes the rows that can't be read.
        notes: takes a sentence on each peculiarity of the file.

    Raises:
        LabkitError: the file as a whole can't be read.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise LabkitError(f"{path.name} is not a supported kind of file.", f"Choose one of {', '.join(SUFFIXES)}.")
    try:
        if suffix == ".parquet":
            path.open("rb").close()
            yield from _read_parquet(path, faults)
        else:
            yield from READERS[suffix](decode(path.read_bytes(), faults, notes), faults, notes)
    except OSError as problem:
        raise unreadable(path, problem) from problem


def unreadable(path: Path, problem: OSError) -> LabkitError:
    """Return the error for a file that the operating system does not read."""
    return LabkitError(f"{path} can't be read: {problem.strerror}.", "Check the file and its permissions.")


def _read_parquet(path: Path, faults: Faults) -> Iterator[tuple[int, dict]]:
    faults.place = "row {number}"
    number = 0
    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=10_000):
                for row in _rows(batch):
                    number += 1
                    if row is None:
                        faults.add(number, "a text in it is not UTF-8", "Write the file again with texts in UTF-8.")
                    else:
                        yield number, row
    except (pyarrow.ArrowException, OSError) as problem:
        what = "can't be read as a parquet file" if not number else f"can't be read beyond row {number:,}"
        first_line = str(problem).strip().split("\n")[0].rstrip(".")
        remedy = "Write it again, for example with df.to_parquet(path)."
        raise LabkitError(f"{faults.name} {what}: {first_line}.", remedy) from problem


def _rows(batch: pyarrow.RecordBatch) -> Iterator[dict | None]:
    """Yield each row of a batch, or None where a text has bytes that are not UTF-8."""
    try:
        yield from batch.to_pylist()
    except UnicodeDecodeError:
        for index in range(len(batch)):
            try:
                yield batch.slice(index, 1).to_pylist()[0]
            except UnicodeDecodeError:
                yield None
