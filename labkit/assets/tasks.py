"""Tasks: prompts with the completions a model should learn, split into training and test sets."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass, field
from functools import cache as memoize
from pathlib import Path

from datasets import Dataset

from labkit.assets.fetch import ensure
from labkit.assets.leakage import split
from labkit.assets.licenses import license_rows
from labkit.assets.manifest import get_asset
from labkit.assets.triage import triage_rows
from labkit.errors import LabkitError, require_count, require_seed, unknown

TEMPLATES = {"triage": "Finding: {text}\nDepartment:", "licenses": "License: {text}\nCategory:"}
COLUMNS = ("prompt", "completion")


@dataclass(frozen=True)
class Task:
    """Examples to learn from and examples to be tested on.

    Attributes:
        name: what it was loaded as.
        train, test: columns ``prompt`` and ``completion`` (the two are joined as they stand).
        labels: the possible completions of a classification task; empty where any text may follow.
        source: whom to cite.
    """

    name: str
    train: Dataset = field(repr=False)
    test: Dataset = field(repr=False)
    labels: tuple[str, ...]
    source: str


def load_task(data: str | Path | Dataset, *, train: int = 1000, test: int = 300, seed: int = 0) -> Task:
    """Build a task, the same for the same arguments on every computer.

    Args:
        data: ``"triage"``, ``"licenses"``, a ``.jsonl`` or ``.csv`` file, or a ``datasets.Dataset``; the
            last three need the columns ``prompt`` and ``completion``.
        train, test: how many examples of each, at most. Classes are drawn evenly, and no training text
            is a near copy of a test text.
        seed: which examples are drawn.

    Raises:
        LabkitError: unknown task, missing or empty columns, no examples, or counts below 1.
    """
    train, test = (require_count(*named, remedy="Ask for at least 1.") for named in (("train", train), ("test", test)))
    seed = require_seed(seed)
    if isinstance(data, str) and data in TEMPLATES:
        rows, source, name = _built_in(data), get_asset(_ASSET[data]).source, data
    else:
        rows, name = _own_rows(data)
        source = name
    train_rows, test_rows = split(rows, train, min(test, len(rows) // 2), seed)
    if not train_rows or not test_rows:
        raise LabkitError(
            f"{name} has {len(rows)} examples: too few, or too much alike, to fill a training and a test set.",
            "Bring more examples that differ.",
        )
    answers = sorted({row["completion"] for row in rows})
    labels = tuple(answers) if len(answers) <= max(2, min(50, len(rows) // 4)) else ()
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


def _own_rows(data: str | Path | Dataset) -> tuple[list[dict], str]:
    if isinstance(data, Dataset):
        rows, name = data.to_list(), "your dataset"
        columns = set(data.column_names)
    elif not isinstance(data, (str, Path)):
        raise LabkitError(
            f"A task cannot be made of a {type(data).__name__}.",
            "Pass a name, a file, or a datasets.Dataset: Dataset.from_list(rows) makes one of a list of dicts.",
        )
    else:
        path = Path(data).expanduser()
        readers = {".jsonl": _read_jsonl, ".csv": _read_csv}
        if path.suffix not in readers:
            raise unknown("task", str(data), TEMPLATES, " A .jsonl or .csv file or a Dataset works too.")
        if not path.is_file():
            raise LabkitError(f"There is no file {path}.", "Check the path; it starts from the notebook's folder.")
        try:
            rows, name = readers[path.suffix](path), path.name
        except UnicodeDecodeError as problem:
            raise LabkitError(f"{path.name} is not UTF-8 text: {problem}.", "Save it again as UTF-8.") from problem
        columns = set(rows[0]) if rows else set(COLUMNS)
    if missing := [column for column in COLUMNS if column not in columns]:
        raise LabkitError(
            f"{name} lacks the column {' and '.join(missing)}; it has {', '.join(sorted(columns)) or 'none'}.",
            "Rename your columns to prompt and completion.",
        )
    if not rows:
        raise LabkitError(f"{name} is empty.", "Bring at least a few dozen examples.")
    return [_checked(row, number, name) for number, row in enumerate(rows, 1)], name


def _checked(row: dict, number: int, name: str) -> dict:
    for column in COLUMNS:
        if not isinstance(row.get(column), str) or not row[column].strip():
            raise LabkitError(
                f"Example {number} of {name} has no text in the column {column}: {row.get(column)!r}.",
                "Fill it in or remove the example.",
            )
    prompt, completion = row["prompt"], row["completion"]
    if not prompt[-1].isspace() and not completion[0].isspace():
        completion = f" {completion}"  # "Answer:yes" would be tokens that no pretraining text has
    return {"prompt": prompt, "completion": completion, "text": prompt, "label": completion}


def _read_jsonl(path: Path) -> list[dict]:
    rows = []
    # Not splitlines(): a JSON string may hold a line separator such as U+2028 as it stands.
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").split("\n"), 1):
        if line.strip():
            try:
                rows.append(dict(json.loads(line)))
            except (ValueError, TypeError) as problem:
                raise LabkitError(
                    f"Line {number} of {path.name} is not a JSON object: {line[:60]!r}.",
                    'Write one object a line, such as {"prompt": "…", "completion": "…"}.',
                ) from problem
    return rows


def _read_csv(path: Path) -> list[dict]:
    with path.open(encoding="utf-8-sig", newline="") as stream:
        return list(csv.DictReader(stream, restkey="(beyond the last column)"))


def _dataset(rows: list[dict]) -> Dataset:
    keep = ("id", *COLUMNS)
    return Dataset.from_list([{key: row[key] for key in keep if key in row} for row in rows])
