"""Where a learner's examples come from: a file, a folder, pandas, datasets, a list, or the hub."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from datasets import Dataset

from labkit.errors import LabkitError, shown, unknown
from labkit.tasks.course import COURSE
from labkit.tasks.faults import Faults
from labkit.tasks.hub import from_hub
from labkit.tasks.in_memory import dataset_rows, frame_rows, list_rows
from labkit.tasks.reading import SUFFIXES, read_file
from labkit.tasks.roles import roles_of
from labkit.tasks.text_folders import folder_rows, split_folders

HUB_NAME = re.compile(r"\w[\w.-]*/[\w.-]+")
CHECK = "Check the path; it starts from the notebook's folder."


@dataclass
class Part:
    """Rows that were given together.

    Attributes:
        role: ``"train"``, ``"test"``, ``"validation"``, or ``"whole"`` if they are still to be split.
        rows: the rows with their numbers, read on demand.
        faults: what is wrong with them.
        whole: what all parts together are called; empty if this is the only one.
    """

    role: str
    rows: Iterator[tuple[int, dict]]
    faults: Faults
    whole: str = ""

    @property
    def name(self) -> str:
        """What the data are called."""
        return self.whole or self.faults.name


def parts_of(data: object, notes: list[str]) -> list[Part]:
    """Return the parts of what was passed as data; what a learner should know goes to ``notes``.

    Raises:
        LabkitError: it is not something that can become a task, or does not exist.
    """
    if isinstance(data, Mapping):
        return _named_parts(data, notes)
    if isinstance(data, Dataset):
        return [Part("whole", dataset_rows(data), Faults("your dataset", "row {number} (dataset[{index}])"))]
    if isinstance(data, pd.DataFrame):
        return [Part("whole", frame_rows(data), Faults("your table", "row {number} (table.iloc[{index}])"))]
    if isinstance(data, (list, tuple)):
        faults = Faults("your list", "row {number} (list[{index}])")
        return [Part("whole", list_rows(data, faults), faults)]
    if not isinstance(data, (str, Path)):
        raise LabkitError(
            f"Data of type {type(data).__name__} cannot become a task.",
            "Pass a file, a folder, a list of dicts, a pandas.DataFrame, a datasets.Dataset or a DatasetDict. Of a "
            "stream, take a part: list(stream.take(5000)); of a generator, list(generator).",
        )
    try:
        return _parts_at(data, notes)
    except (OSError, RuntimeError) as problem:  # no access, a name that is too long, or ~ without a home
        reason = getattr(problem, "strerror", None) or str(problem).rstrip(".")
        raise LabkitError(f"The path {shown(str(data))} can't be read: {reason}.", CHECK) from problem


def _parts_at(data: str | Path, notes: list[str]) -> list[Part]:
    path = Path(data).expanduser()
    if path.is_dir() and str(data):
        parts = split_folders(path, notes)
        if not parts:
            return [Part("whole", *_rows_at(path, notes))]
        found = [Part(role, *_rows_at(part, notes), path.name) for role, part in parts.items()]
        for part in found:
            part.faults.name = f"{path.name}/{part.faults.name}"
        return found
    if path.suffix.lower() in SUFFIXES:
        if not path.is_file():
            raise LabkitError(f"There is no file {shown(str(path))}.", CHECK)
        return [Part("whole", *_rows_at(path, notes))]
    if path.exists() and str(data):
        raise LabkitError(
            f"{path.name} is not a supported kind of file.",
            f"Save it as one of {', '.join(SUFFIXES)}, or pass a folder.",
        )
    if isinstance(data, str) and HUB_NAME.fullmatch(data) and not path.parent.is_dir():
        return _named_parts(from_hub(data), notes, data)
    if data in COURSE:
        raise LabkitError(f"{data} is a task of the course, with a test set of its own.", "Pass it alone.")
    if isinstance(data, Path) or "/" in data or "\\" in data:
        raise LabkitError(f"There is no file or folder {shown(str(data))}.", CHECK)
    raise unknown(
        "task",
        data,
        COURSE,
        f" A file ({', '.join(SUFFIXES)}), a folder, a hub name with a slash, or data in memory work too.",
    )


def _rows_at(path: Path, notes: list[str]) -> tuple[Iterator[tuple[int, dict]], Faults]:
    if path.is_dir():
        return folder_rows(path, notes)
    faults = Faults(path.name, "row {number}" if path.suffix.lower() == ".parquet" else "line {number}")
    return read_file(path, faults, notes), faults


def _named_parts(data: Mapping, notes: list[str], whole: str = "") -> list[Part]:
    """Return the parts of a DatasetDict, or of any mapping from names such as "train" to data."""
    roles = roles_of(data)
    if len(data) == 1:
        roles = {"whole": next(iter(data))}
    elif not {"train"} < set(roles):
        raise LabkitError(
            f"These parts are not a training and a test set: {shown(list(data))}.",
            'Pass one of them, or name them: {"train": …, "test": …}. Of columns make a table: pandas.DataFrame(…).',
        )
    if unused := [str(name) for name in data if name not in roles.values()]:
        notes.append(f"parts that were not used: {', '.join(unused)}")
    parts = []
    for role, name in roles.items():
        found = parts_of(data[name], notes)
        if len(found) > 1 and role != "whole":
            raise LabkitError(f"The part {name} holds a training and a test set itself.", "Pass it alone.")
        for part in found:
            part.whole = whole or part.name
            part.faults.name = f"{part.whole}, part {name}"
            part.role = part.role if role == "whole" else role
        parts += found
    return parts
