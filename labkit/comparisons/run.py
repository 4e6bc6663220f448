"""Comparisons that take longer than a lesson: run once by a command, stored, read and sampled by notebooks."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields, replace
from functools import lru_cache
from pathlib import Path

import pandas as pd

from labkit.comparisons.measures import measured
from labkit.comparisons.sweeps import SHOWDOWN, SWEEPS
from labkit.computer import circumstances
from labkit.errors import LabkitError, require_count, shown, unknown
from labkit.evaluation import text_loss
from labkit.methods import get_method
from labkit.models.load import load_model
from labkit.models.model import Model
from labkit.storage import cache, records
from labkit.tasks.english import general_english
from labkit.tasks.load import load_task
from labkit.tasks.task import Task


@dataclass(frozen=True)
class Point:
    """One run of a sweep: everything that its result depends on but the computer.

    Attributes:
        model, task: names of a model and a task.
        method: settings of a method, its name among them.
        learning_rate, steps, batch_size, seed: as in ``TrainingConfig``.
        train, test: how many examples the task has.
        held_out: how many of the training examples are tested on in place of the test set and not learned. A search
            for settings needs them: it would otherwise choose what suits the test set. Each class has its share.
    """

    model: str
    task: str
    method: dict
    learning_rate: float
    steps: int
    batch_size: int
    seed: int
    train: int
    test: int
    held_out: int = 0

    def run(self) -> dict:
        """Train and evaluate; return what was measured, with the versions and the computer."""
        base, task = _model(self.model), _task(self.task, self.train, self.test)
        if self.held_out:
            task = _without(task, self.held_out)
        settings = {key: getattr(self, key) for key in ("learning_rate", "steps", "batch_size", "seed")}
        english = _english(self.model) if base.kind == "causal" else None
        return measured(base, task, get_method(self.method), settings, english) | {
            "made": circumstances(base.device, base.precision)
        }


def _without(task: Task, count: int) -> Task:
    """Return the task with the last of each class of its training examples, so many in all, for a test set."""
    answers = task.train["completion"][:]
    total, seen, places = Counter(answers), Counter(), []
    for i, answer in enumerate(answers):
        seen[answer] += 1
        places.append((seen[answer] / total[answer], i))
    order = [i for _, i in sorted(places)]
    learned, tested = sorted(order[:-count]), sorted(order[-count:])
    return replace(task, train=task.train.select(learned), test=task.train.select(tested))


def points(name: str) -> list[Point]:
    """Return the runs of a sweep.

    Raises:
        LabkitError: there is no sweep of that name.
    """
    if name not in SWEEPS:
        raise unknown("sweep", name, SWEEPS)
    return [Point(**setting | {"method": _settings(setting["method"])}) for setting in SWEEPS[name]()]


def _settings(method: dict) -> dict:
    """Return all settings of a method, as a stored row has them."""
    settings = get_method(method).to_dict()
    del settings["learning_rate"]  # the method's default, which the point's own rate replaces
    return json.loads(json.dumps(settings))


def bench(name: str, folder: Path | None = None, part: tuple[int, int] = (1, 1)) -> Iterator[tuple[int, int, dict]]:
    """Run the points of a sweep that are not stored yet, store each at once, and yield (number, of, row).

    Args:
        name: of the sweep.
        folder: where the results lie.
        part: ``(2, 3)`` keeps to the second of three shares, so that three processes can work side by side.

    Raises:
        LabkitError: there is no sweep of that name, or no such part.
    """
    return _bench(name, folder, require_part(part))


def require_part(part: tuple[int, int]) -> tuple[int, int]:
    """Return a share as two whole numbers, or raise a ``LabkitError`` unless it is one such as (2, 3)."""
    try:
        number, count = part
        count = require_count("the number of parts", count)
        return require_count("part", number, high=count), count
    except (TypeError, ValueError, LabkitError) as problem:
        remedy = "Pass (1, 2) and (2, 2) for two processes."
        raise LabkitError(f"{shown(part)} is no part of a whole.", remedy) from problem


def _bench(name: str, folder: Path | None, part: tuple[int, int]) -> Iterator[tuple[int, int, dict]]:
    path = (folder or cache.course_data() / "results") / f"{name}.json"
    todo = points(name)
    done = [_point(row) for row in _store(path, name, todo)]
    for point in [point for point in todo[part[0] - 1 :: part[1]] if point not in done]:
        row = asdict(point) | point.run()
        yield len(_store(path, name, todo, row)), len(todo), row


def _store(path: Path, name: str, todo: list[Point], *new: dict) -> list[dict]:
    """Add new rows to the file, leave out those of an older sweep, and return all in the sweep's order."""
    with cache.locked(f"results-{name}"):  # another process may have added a row since
        stored = _rows(path)
        rows = [row for row in [*stored, *new] if _point(row) in todo]
        rows.sort(key=lambda row: todo.index(_point(row)))
        if rows != stored:
            content = records.stamped("results", {"command": f"labkit bench {name}", "rows": rows})
            cache.write_text(path, json.dumps(content, indent=1) + "\n")
    return rows


def results(name: str) -> pd.DataFrame:
    """Return the stored rows of a sweep, with accuracy and the method's settings as columns.

    The column ``label`` has the name of a method with its settings, such as "LoRA r=4", where the sweep ``methods``
    has one for it.

    Raises:
        LabkitError: no results of that name are stored.
    """
    folder = cache.course_data() / "results"
    path = folder / f"{name}.json"
    if path not in (stored := list(folder.glob("*.json"))):
        raise unknown("result", name, [p.stem for p in stored], f" `labkit bench {name}` may make it.")
    labels = {json.dumps(_settings(method)): label for label, method in SHOWDOWN.items()}
    rows = []
    for row in _rows(path):
        settings = {f"method.{key}": value for key, value in row["method"].items()}
        label = labels.get(json.dumps(row["method"]), row["method"]["name"])
        rows.append({**row, **settings, "label": label, "accuracy": row["correct"] / row["total"]})
    return pd.DataFrame(rows).rename(columns={"method.name": "name"})


def repeat(row: pd.Series | dict) -> dict:
    """Run one stored row again, here and now, and return what was measured."""
    return _point(dict(row)).run()


def _point(row: dict) -> Point | None:
    """Return the point of a row; None where the row has not all that a point needs today."""
    if not row.keys() >= {field.name for field in fields(Point)} - {"held_out"}:
        return None
    # pandas hands out numpy's numbers, which are no whole numbers to a TrainingConfig.
    plain = {key: value.item() if hasattr(value, "item") else value for key, value in row.items()}
    # In a table with rows from before there was held_out, pandas makes it a float, which may be missing.
    held_out = plain.get("held_out", 0)
    plain["held_out"] = 0 if pd.isna(held_out) else int(held_out)
    return Point(**{field.name: plain[field.name] for field in fields(Point)})


def _rows(path: Path) -> list[dict]:
    if not path.is_file():
        return []
    try:
        record = records.read_json(path, "results", ["command", "rows"])
        if record["command"].startswith("labkit bench ") and all(row["model"] for row in record["rows"]):
            return record["rows"]
    except (records.DamagedError, KeyError, TypeError, AttributeError):
        pass
    raise LabkitError(f"{path} holds no results of `labkit bench`.", "Restore it, or remove it and run again.")


@lru_cache(maxsize=1)
def _model(name: str) -> Model:
    return load_model(name)


@lru_cache(maxsize=1)
def _english(name: str) -> float:
    return text_loss(_model(name), general_english())


@lru_cache(maxsize=1)
def _task(name: str, train: int, test: int) -> Task:
    return load_task(name, train=train, test=test)
