"""Comparisons that take longer than a lesson: run once by a command, stored, read and sampled by notebooks."""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path

import pandas as pd
import torch

from labkit.assets import cache
from labkit.assets.models import Model, load_model
from labkit.assets.tasks import Task, load_task
from labkit.errors import LabkitError, unknown
from labkit.evaluation import evaluate, forgetting
from labkit.experiment import finetune
from labkit.methods import get_method
from labkit.sweeps import SWEEPS
from labkit.training.loop import TrainingDivergedError


@dataclass(frozen=True)
class Point:
    """One run of a sweep: everything that its result depends on but the computer.

    Attributes:
        model, task: names of a model and a task.
        method: settings of a method, its name among them.
        learning_rate, steps, batch_size, seed: as in ``TrainingConfig``.
        train, test: how many examples the task has.
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

    def run(self) -> dict:
        """Train and evaluate; return what was measured, with the versions and the computer."""
        base, task = _model(self.model), _task(self.task, self.train, self.test)
        began = time.perf_counter()
        settings = {key: getattr(self, key) for key in ("learning_rate", "steps", "batch_size", "seed")}
        try:
            run, diverged = finetune(base, task, get_method(self.method), progress=False, **settings), False
        except TrainingDivergedError as stop:  # a result as well: this rate is too high
            run, diverged = stop.run, True
        seconds = time.perf_counter() - began
        score = evaluate(run.model, task)
        return {
            "correct": score.correct,
            "total": score.total,
            "diverged": diverged,
            "trained_parameters": run.trained_parameters,
            "peak_bytes": run.memory and run.memory.peak,
            "parameter_bytes": run.memory and run.memory.parameters,
            "seconds": round(seconds, 2),
            "loss_rise": round(forgetting(base, run.model).rise, 4) if base.kind == "causal" else None,
            "made": _circumstances(base),
        }


def points(name: str) -> list[Point]:
    """Return the runs of a sweep.

    Raises:
        LabkitError: there is no sweep of that name.
    """
    if name not in SWEEPS:
        raise unknown("sweep", name, SWEEPS)
    made = []
    for setting in SWEEPS[name]():
        method = get_method(setting["method"]).to_dict()
        del method["learning_rate"]  # the method's default, which the point's own rate replaces
        # Through JSON and back, so that a point equals the stored row.
        made.append(Point(**json.loads(json.dumps(setting | {"method": method}))))
    return made


def bench(name: str, folder: Path | None = None) -> Iterator[tuple[int, int, dict]]:
    """Run the points of a sweep that are not stored yet, store each at once, and yield (number, of, row)."""
    path = (folder or cache.course_data() / "results") / f"{name}.json"
    todo, stored = points(name), _rows(path)
    rows = [row for row in stored if _point(row) in todo]  # others belong to an older sweep
    done = [_point(row) for row in rows]
    if len(rows) < len(stored):
        _store(path, name, rows)
    for point in todo:
        if point not in done:
            rows.append(asdict(point) | point.run())
            _store(path, name, rows)
            yield len(rows), len(todo), rows[-1]


def _store(path: Path, name: str, rows: list[dict]) -> None:
    cache.write_text(path, json.dumps({"command": f"labkit bench {name}", "rows": rows}, indent=1) + "\n")


def results(name: str) -> pd.DataFrame:
    """Return the stored rows of a sweep, with accuracy and the method's settings as columns.

    Raises:
        LabkitError: no results of that name are stored.
    """
    folder = cache.course_data() / "results"
    path = folder / f"{name}.json"
    if not path.is_file():
        raise unknown("result", name, [p.stem for p in folder.glob("*.json")], f" `labkit bench {name}` may make it.")
    rows = []
    for row in _rows(path):
        settings = {f"method.{key}": value for key, value in row["method"].items()}
        rows.append({**row, **settings, "accuracy": row["correct"] / row["total"]})
    return pd.DataFrame(rows).rename(columns={"method.name": "name"})


def repeat(row: pd.Series | dict) -> dict:
    """Run one stored row again, here and now, and return what was measured."""
    return _point(dict(row)).run()


def _point(row: dict) -> Point | None:
    """Return the point of a row; None where the row has not all that a point needs today."""
    if not row.keys() >= Point.__dataclass_fields__.keys():
        return None
    # pandas hands out numpy's numbers, which are no whole numbers to a TrainingConfig.
    plain = {key: value.item() if hasattr(value, "item") else value for key, value in row.items()}
    return Point(**{key: plain[key] for key in Point.__dataclass_fields__})


def _rows(path: Path) -> list[dict]:
    if not path.is_file():
        return []
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
        if all(row["model"] for row in rows):
            return rows
    except (ValueError, KeyError, TypeError):
        pass
    raise LabkitError(f"{path} holds no results of `labkit bench`.", "Restore it, or remove it and run again.")


@lru_cache(maxsize=1)
def _model(name: str) -> Model:
    return load_model(name)


@lru_cache(maxsize=1)
def _task(name: str, train: int, test: int) -> Task:
    return load_task(name, train=train, test=test)


def _circumstances(model: Model) -> dict:
    packages = ("torch", "transformers", "finetune-labkit")
    return {
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d"),
        "processor": processor(model.device),
        "threads": torch.get_num_threads(),
        "precision": str(model.precision).removeprefix("torch."),
        "python": platform.python_version(),
        **{package: version(package) for package in packages},
    }


def processor(device: torch.device) -> str:
    """Return the name of what computes on a device."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())
