"""Load a saved run: read its record, find its base model, and put what was trained on it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labkit.errors import LabkitError, unknown
from labkit.generation.sampling import Sampling
from labkit.memory import MemoryReport
from labkit.methods import Method, get_method, quantize_model
from labkit.models.load import load_model
from labkit.models.model import Model
from labkit.process import own_random_numbers
from labkit.quant.layers import Quantization
from labkit.runs.places import place
from labkit.runs.run import KEYS, Run, describe
from labkit.storage import cache, folders, records
from labkit.training.config import TrainingConfig
from labkit.training.head import load_head
from labkit.training.ppo import Value
from labkit.training.rl import RL


@dataclass
class Record:
    """What a saved run says about itself: all but the weights.

    Attributes:
        method, config, base, task, labels, history, memory, rl: as in ``Run``.
        name, fingerprint, quantization: of the base model, from ``base``.
        version: of the record's format.
    """

    method: Method
    config: TrainingConfig
    base: dict[str, Any]
    task: str
    labels: tuple[str, ...]
    history: list[dict[str, Any]]
    memory: MemoryReport | None
    rl: RL | None
    name: str
    fingerprint: str
    quantization: Quantization | None
    version: int


def load_run(name: str | Path, base: Model | None = None, *, force: bool = False) -> Run:
    """Load a saved run. Its base model is loaded as it was in training, unless ``base`` is given.

    Args:
        name: as given to ``Run.save``.
        base: the model to put the adapter on.
        force: take ``base`` although it differs from the model of the training.

    Raises:
        LabkitError: there is no such run, its files are damaged or come from a newer labkit, or ``base`` isn't the
            model, precision or quantization that it was trained on.
    """
    folder = place(name, "runs")
    record = read_record(_find(folder, str(name)))
    if base is None:
        base = _load_base(record, folder.name)
    if not force:
        _require_same(record, base, folder.name)
    with own_random_numbers(base.device):
        model = load_head(record.method.load(base, folder), folder, len(record.labels))
    model.labels = record.labels
    return Run(
        model,
        record.method,
        record.config,
        record.base,
        record.task,
        record.labels,
        record.history,
        record.memory,
        record.rl,
    )


def _find(folder: Path, name: str) -> Path:
    """Return the file with the record of a run."""
    path = folder / records.FILE
    if not path.is_file():
        folders.recover(folder.parent)
    if path.is_file():
        return path
    if folder.is_dir() and folder.name and any(folder.glob("*.safetensors")):
        raise records.damaged(path, "it is missing")
    runs = cache.home() / "runs"
    found = [p for p in runs.iterdir() if (p / records.FILE).is_file()] if runs.is_dir() else []
    raise unknown("saved run", name, [p.name for p in found if not p.name.startswith(".")])


def read_record(path: Path) -> Record:
    """Return what is in the file with the record of a run, or raise a ``LabkitError`` where it is damaged."""
    content = records.read_json(path, "run", KEYS)
    try:
        base = dict(content["base"])
        stored = base.get("quantization")
        return Record(
            method=get_method(content["method"]),
            config=TrainingConfig(**content["config"]),
            base=base,
            task=content["task"],
            labels=tuple(content["labels"]),
            history=[dict(row) for row in content["history"]],
            memory=_report(content["memory"]) if content["memory"] else None,
            rl=_rl(content["rl"]) if content.get("rl") else None,
            name=str(base["name"]),
            fingerprint=base["fingerprint"],
            quantization=Quantization(**stored) if stored else None,
            version=content.get("version", 0),
        )
    except (KeyError, TypeError, ValueError, AttributeError, LabkitError) as problem:
        reason = getattr(problem, "cause", f"{type(problem).__name__}: {problem}").rstrip(".")
        raise records.damaged(path, f"it is damaged ({reason})") from problem


def _rl(stored: dict[str, Any]) -> RL:
    return RL(**stored | {"sampling": Sampling(**stored["sampling"]), "value": Value(**stored["value"])})


def _report(stored: dict[str, Any]) -> MemoryReport:
    return MemoryReport(**stored | {"timeline": tuple(tuple(moment) for moment in stored.get("timeline", ()))})


def _load_base(record: Record, run: str) -> Model:
    try:
        base = load_model(record.name, precision=record.base.get("precision", "auto"))
    except LabkitError as problem:
        raise LabkitError(
            f"{run} was trained on {record.name}, which could not be loaded. {problem.cause}",
            "Pass that model yourself: lk.load_run(…, base=lk.load_model(…)).",
        ) from problem
    return quantize_model(base, record.quantization, inplace=True) if record.quantization else base


def _require_same(record: Record, base: Model, run: str) -> None:
    """Raise a ``LabkitError`` unless ``base`` is what the run was trained on; its name doesn't matter."""
    trained, given = record.base, describe(base)
    differ = [key for key in trained if key != "name" and trained[key] != given.get(key)]
    if record.version == 0 and record.fingerprint == base.old_fingerprint():
        differ = [key for key in differ if key != "fingerprint"]  # the first format's fingerprint covered less
    if differ:
        details = "; ".join(f"{key} {trained[key]} there, {given.get(key)} here" for key in differ)
        raise LabkitError(
            f"{run} was trained on {record.name}, and {base.name} is not that model as it was ({details}).",
            "Leave `base` out to load the right one, or pass force=True to try it all the same.",
        )
