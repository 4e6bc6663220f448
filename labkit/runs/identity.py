"""What a run is made of: two runs that are made of the same have the same results."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Sequence
from dataclasses import asdict
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from labkit.errors import LabkitError, shown
from labkit.methods import Method
from labkit.models.fingerprint import fingerprint
from labkit.models.model import Model
from labkit.runs.run import describe
from labkit.training.batching import Example
from labkit.training.callbacks import Callback, Every
from labkit.training.config import TrainingConfig
from labkit.training.identity import digest_of
from labkit.training.processes import count_processes
from labkit.training.rl import RL

PACKAGES = ("torch", "transformers")
MEASURES = "lk.Every"  # stands for a callback that only adds to the history
# The parts of labkit that a run's numbers come from.
CODE = ("chat", "evaluation", "generation", "methods", "models", "quant", "training", "preparation.py", "process.py")


def identity_of(
    model: Model,
    method: Method,
    config: TrainingConfig,
    examples: Sequence[Example],
    replay: Sequence[Example],
    labels: Sequence[str],
    callbacks: Sequence[Callback],
) -> dict[str, Any]:
    """Return all that a run's results depend on except the computer, in types that JSON has.

    Weights count to the last bit, and callbacks by their code: they add to the history, and may change the model. The
    model's name doesn't count, nor do threads and processor.

    Raises:
        LabkitError: a callback's code cannot be read.
    """
    base = describe(model)
    base["name"] = ""
    base["weights"] = fingerprint(model.module, exact=True)
    base["head"] = [fingerprint(model.head, exact=True), *model.labels] if model.head is not None else None
    made = {
        "model": base,
        "method": method.to_dict(),
        "settings": asdict(config),
        "data": {"examples": digest_of(examples), "replay": digest_of(replay), "labels": labels},
        "callbacks": [_code_of(callback) for callback in callbacks],
        "versions": {"labkit": _own_code()} | {package: version(package) for package in PACKAGES},
    }
    return json.loads(json.dumps(made))


def resumable(
    base: dict[str, Any], method: Method, config: TrainingConfig, examples: Sequence[Example]
) -> dict[str, Any]:
    """Return what a checkpoint must share with a run that resumes from it."""
    return {"model": base, "method": method.to_dict(), "settings": asdict(config), "data": digest_of(examples)}


def resumable_policy(
    base: dict[str, Any],
    method: Method,
    config: TrainingConfig,
    asked: Sequence[Any],
    rl: RL,
    weights: dict[str, float],
) -> dict[str, Any]:
    """Return the same of a run that learns from rewards: of these, names and weights.

    Args:
        base, method, config: as above.
        asked: all that the rewards and the model are told.
        rl: how it learns.
        weights: of the rewards, by name.
    """
    data = hashlib.sha256(json.dumps(asked, default=str).encode()).hexdigest()[:16]
    made = {"model": base, "method": method.to_dict(), "settings": asdict(config), "data": data}
    return made | {"rl": asdict(rl), "rewards": weights}


def require_keepable(method: Method, inplace: bool) -> None:
    """Raise a ``LabkitError`` where a run cannot be kept, or given back."""
    if inplace:
        raise LabkitError(
            "A kept run has a model of its own, and inplace=True asks for the run to change the model it starts from.",
            "Leave out keep or inplace.",
        )
    if type(method).__module__.split(".")[0] != "labkit":
        raise LabkitError(
            f"keep= cannot tell whether the code of {method.name}, which is not part of labkit, has changed.",
            "Leave keep out, and use run.save and lk.load_run.",
        )
    if count_processes() > 1:
        raise LabkitError("A run of several processes cannot be kept.", "Leave keep out, and use run.save.")


def _code_of(callback: Any) -> list[Any]:
    """Return a callback's name and source, and its attributes that are plain values or functions, such as Every's."""
    code = callback if inspect.isroutine(callback) else type(callback).__call__
    try:
        source = hashlib.sha256(inspect.getsource(code).encode()).hexdigest()[:16]
    except (OSError, TypeError) as problem:  # typed into a plain Python prompt, or not written in Python
        raise LabkitError(
            f"keep= cannot tell whether the code of the callback {shown(callback)} has changed: it has no source.",
            "Write it as a function in a notebook or a file, or leave keep out.",
        ) from problem
    found: list[Any] = [MEASURES if type(callback) is Every else code.__qualname__, source]
    for name, value in [] if code is callback else sorted(vars(callback).items()):
        if inspect.isroutine(value):
            found.append([name, _code_of(value)])
        elif isinstance(value, bool | int | float | str):
            found.append([name, value])
    return found


@cache
def _own_code() -> str:
    """Return 16 hexadecimal digits of labkit's own code: a version number may stay while it changes."""
    root = Path(__file__).parents[1]
    files = [file for part in CODE for file in ([root / part] if "." in part else (root / part).glob("*.py"))]
    digest = hashlib.sha256()
    for file in sorted(files):
        digest.update(file.name.encode() + file.read_bytes())
    return digest.hexdigest()[:16]
