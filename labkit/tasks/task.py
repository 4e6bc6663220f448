"""Tasks: prompts with the completions a model should learn, split into training and test sets."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from functools import cache as memoize
from pathlib import Path

from datasets import Dataset

from labkit.assets.fetch import ensure
from labkit.assets.manifest import get_asset
from labkit.errors import LabkitError, require_count, require_seed, unknown
from labkit.tasks.licenses import license_rows
from labkit.tasks.likeness import split
from labkit.tasks.own_data import COLUMNS, SUFFIXES, own_rows
from labkit.tasks.split import split_own
from labkit.tasks.summary import describe
from labkit.tasks.triage import triage_rows

TEMPLATES = {"triage": "Finding: {text}\nDepartment:", "licenses": "License: {text}\nCategory:"}


@dataclass(frozen=True)
class Task:
    """Examples to learn from and examples to be tested on.

    Attributes:
        name: what it was loaded as.
        train, test: columns ``prompt`` and ``completion`` (the two are joined as they stand).
        labels: the possible completions of a classification task; empty where any text may follow.
        source: whom to cite.
        notes: all that was said about the data, a sentence or so each.
        left_out: for each reason, how many rows are in neither set because of it.
    """

    name: str
    train: Dataset = field(repr=False)
    test: Dataset = field(repr=False)
    labels: tuple[str, ...]
    source: str
    notes: tuple[str, ...] = field(default=(), repr=False)
    left_out: dict[str, int] = field(default_factory=dict, repr=False, hash=False)

    def __str__(self) -> str:
        return str(describe(self))

    def _repr_html_(self) -> str:
        return describe(self)._repr_html_()


class DataWarning(UserWarning):
    """Data of one's own became a task, but not all of it as one might think."""


def load_task(data: str | Path | Dataset, *, train: int = 1000, test: int = 300, seed: int = 0) -> Task:
    """Build a task, the same for the same arguments on every computer.

    The course's own tasks draw their classes evenly, and no training text is a near copy of a test text.
    Data of one's own are split at random, each label in proportion; only copies of test examples are left
    out, and near copies are reported.

    Args:
        data: ``"triage"``, ``"licenses"``, a ``.jsonl`` or ``.csv`` file, or a ``datasets.Dataset``; the
            last three need the columns ``prompt`` and ``completion``.
        train, test: how many examples of each, at most.
        seed: which examples are drawn.

    Raises:
        LabkitError: unknown task, missing columns, examples that can't be used (up to twenty are named by
            line), too few examples, or counts below 1.

    Warns:
        DataWarning: there is less data than was asked for, or something in it that may mislead.
    """
    train, test = (require_count(*named, remedy="Ask for at least 1.") for named in (("train", train), ("test", test)))
    seed = require_seed(seed)
    if isinstance(data, str) and data in TEMPLATES:
        rows, source, name = _built_in(data), get_asset(_ASSET[data]).source, data
        has_labels, notes = True, []
        train_rows, test_rows = split(rows, train, min(test, len(rows) // 2), seed)
    else:
        rows, name, has_labels, notes = own_rows(_source_of(data))
        source = name
        train_rows, test_rows, more = split_own(rows, train, test, seed, has_labels=has_labels)
        notes += more
    if not train_rows or not test_rows:
        raise LabkitError(
            f"{name} has {len(rows)} examples: too few, or too much alike, to fill a training and a test set.",
            "Bring more examples that differ.",
        )
    if notes:
        warnings.warn("\n  ".join([f"{name}:", *notes]), DataWarning, stacklevel=2)
    labels = tuple(sorted({row["completion"] for row in rows})) if has_labels else ()
    return Task(name, _dataset(train_rows), _dataset(test_rows), labels, source)


_ASSET = {"triage": "hpo", "licenses": "licenses"}


@memoize
def _built_in(name: str) -> list[dict]:
    asset = get_asset(_ASSET[name])
    folder = ensure(asset.name)
    if name == "triage":
        rows = triage_rows(folder / "hp.obo")
    else:
        rows = license_rows(folder / asset.wheel, asset.members[0])
    template = TEMPLATES[name]
    return [{**row, "prompt": template.format(**row), "completion": f" {row['label']}"} for row in rows]


def _source_of(data: str | Path | Dataset) -> Path | Dataset:
    if isinstance(data, Dataset):
        return data
    if not isinstance(data, (str, Path)):
        raise LabkitError(
            f"A task cannot be made of a {type(data).__name__}.",
            "Pass a name, a file, or a datasets.Dataset: Dataset.from_list(rows) makes one of a list of dicts.",
        )
    path = Path(data).expanduser()
    if path.suffix.lower() not in SUFFIXES:
        raise unknown("task", str(data), TEMPLATES, " A .jsonl or .csv file or a Dataset works too.")
    if not path.is_file():
        raise LabkitError(f"There is no file {path}.", "Check the path; it starts from the notebook's folder.")
    return path


def _dataset(rows: list[dict]) -> Dataset:
    keep = ("id", *COLUMNS)
    return Dataset.from_list([{key: row[key] for key in keep if key in row} for row in rows])
