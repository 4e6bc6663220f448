"""Where a learner's examples come from: a file, a folder, pandas, datasets, a list, or the hub."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from datasets import ClassLabel, Dataset

from labkit.errors import LabkitError, shown, unknown
from labkit.tasks.course import TEMPLATES
from labkit.tasks.faults import Faults
from labkit.tasks.folders import folder_rows, split_folders
from labkit.tasks.hub import from_hub
from labkit.tasks.reading import SUFFIXES, read_file

# What the parts of a data set are called; the third is for choosing settings, and stands in for a test set.
ROLES = {
    "train": ("train", "training"),
    "test": ("test", "testing", "eval", "evaluation"),
    "validation": ("validation", "valid", "val", "dev"),
}
ROLE = {name: role for role, names in ROLES.items() for name in names}
HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
PICTURES = ("Audio", "Image", "Pdf", "Video")  # columns that would be decoded for nothing


@dataclass
class Part:
    """Rows that were given together.

    Attributes:
        role: ``"train"``, ``"test"``, ``"validation"``, or ``"whole"`` where they are still to be split.
        rows: each with its number, read when they are asked for.
        faults: what is wrong with them.
    """

    role: str
    rows: Iterator[tuple[int, dict]]
    faults: Faults


def parts_of(data: object, notes: list[str]) -> list[Part]:
    """Return the parts of what was passed as data; what a learner should be told goes to ``notes``.

    Raises:
        LabkitError: nothing can be made of it, or it isn't there.
    """
    if isinstance(data, Mapping):
        return _named_parts(data, notes)
    if isinstance(data, Dataset):
        return [Part("whole", _dataset_rows(data), Faults("your dataset", "row {number} (dataset[{index}])"))]
    if isinstance(data, pd.DataFrame):
        return [Part("whole", _frame_rows(data), Faults("your table", "row {number} (table.iloc[{index}])"))]
    if isinstance(data, (list, tuple)):
        return [Part("whole", _list_rows(data), Faults("your list", "row {number} (list[{index}])"))]
    if not isinstance(data, (str, Path)):
        raise LabkitError(
            f"A task cannot be made of a {type(data).__name__}.",
            "Pass a file, a folder, a list of dicts, a pandas.DataFrame, a datasets.Dataset or a DatasetDict. Of a "
            "stream, take a part: list(stream.take(5000)).",
        )
    return _parts_at(data, notes)


def _parts_at(data: str | Path, notes: list[str]) -> list[Part]:
    path = Path(data).expanduser()
    if path.is_dir():
        if parts := split_folders(path, ROLE):
            return [Part(ROLE[name], *_rows_at(part, notes)) for name, part in parts.items()]
        return [Part("whole", *_rows_at(path, notes))]
    if path.suffix.lower() in SUFFIXES:
        if not path.is_file():
            raise LabkitError(f"There is no file {path}.", "Check the path; it starts from the notebook's folder.")
        return [Part("whole", *_rows_at(path, notes))]
    if path.exists():
        raise LabkitError(
            f"{path.name} is of no kind that can be read.",
            f"Save it as one of {', '.join(SUFFIXES)}, or pass a folder.",
        )
    if isinstance(data, str) and HUB_NAME.fullmatch(data):
        return _named_parts(from_hub(data), notes)
    raise unknown(
        "task",
        str(data),
        TEMPLATES,
        f" A file ({', '.join(SUFFIXES)}), a folder, a hub name with a slash, or data in memory work too.",
    )


def _rows_at(path: Path, notes: list[str]) -> tuple[Iterator[tuple[int, dict]], Faults]:
    if path.is_dir():
        return folder_rows(path, notes)
    faults = Faults(path.name, "row {number}" if path.suffix.lower() == ".parquet" else "line {number}")
    return read_file(path, faults, notes), faults


def _named_parts(data: Mapping, notes: list[str]) -> list[Part]:
    """Return the parts of a DatasetDict, or of any mapping from names such as "train" to data."""
    if len(data) == 1:
        return parts_of(next(iter(data.values())), notes)
    names = {name: ROLE.get(str(name).strip().casefold()) for name in data}
    roles = [role for role in names.values() if role]
    if "train" not in roles or len(set(roles)) < max(2, len(roles)):
        raise LabkitError(
            f"These parts are no training and test set: {shown(list(data))}.",
            'Pass one of them, or name them: {"train": …, "test": …}.',
        )
    if unused := [str(name) for name, role in names.items() if not role]:
        notes.append(f"parts that were not used: {', '.join(unused)}")
    parts = []
    for name, role in names.items():
        for part in parts_of(data[name], notes) if role else []:
            part.faults.name = f"{part.faults.name}, part {name}"
            parts.append(Part(role, part.rows, part.faults))
    return parts


def _dataset_rows(data: Dataset) -> Iterator[tuple[int, dict]]:
    names = {name: kind.names for name, kind in data.features.items() if isinstance(kind, ClassLabel) and kind.names}
    used = data.select_columns([name for name, kind in data.features.items() if type(kind).__name__ not in PICTURES])
    number = 0
    for batch in used.iter(batch_size=1000) if used.column_names else ():
        for name, labels in names.items():  # numbers of classes whose names the data set holds; -1 is none
            batch[name] = [None if i is None or i < 0 else labels[i] for i in batch[name]]
        for values in zip(*batch.values(), strict=True):
            number += 1
            yield number, dict(zip(batch, values, strict=True))


def _frame_rows(data: pd.DataFrame) -> Iterator[tuple[int, dict]]:
    names = [str(name) for name in data.columns]
    if len(set(names)) < len(names):
        raise LabkitError(f"The table has a column twice: {', '.join(names)}.", "Rename one of them.")
    whole = data.astype(object).where(data.notna(), None)
    for number, values in enumerate(whole.itertuples(index=False, name=None), 1):
        yield number, dict(zip(names, values, strict=True))


def _list_rows(data: list | tuple) -> Iterator[tuple[int, dict]]:
    for number, row in enumerate(data, 1):
        if not isinstance(row, Mapping):
            raise LabkitError(
                f"Row {number} of your list is no dict but {shown(row)}.",
                'Write each example as {"prompt": "…", "completion": "…"}.',
            )
        yield number, {str(name): value for name, value in row.items()}
