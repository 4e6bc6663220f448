"""What a run is made of: two runs that are made of the same have the same results."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from labkit.errors import LabkitError
from labkit.methods import Method
from labkit.models.model import Model
from labkit.runs.same import code_of, weights_of
from labkit.training.batching import Example
from labkit.training.callbacks import Callback
from labkit.training.config import TrainingConfig
from labkit.training.identity import digest_of
from labkit.training.processes import count_processes
from labkit.training.rewards import Rewards
from labkit.training.rl import RL

PACKAGES = ("torch", "transformers")
# The parts of labkit that a run's numbers come from.
CODE: tuple[str, ...] = ("conversations", "evaluation", "generation", "methods", "models", "quant", "training")
CODE += ("tasks/questions.py", "preparation.py", "process.py")


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
    data = {"examples": digest_of(examples), "replay": digest_of(replay), "labels": labels}
    return _identity(model, method, config, data, callbacks)


def identity_of_policy(
    model: Model,
    method: Method,
    config: TrainingConfig,
    asked: Sequence[Any],
    rl: RL,
    rewards: Rewards,
    callbacks: Sequence[Callback],
) -> dict[str, Any]:
    """Return the same of a run that learns from rewards.

    Args:
        model, method, config, callbacks: as above.
        asked: all that the rewards and the model are told.
        rl: how it learns.
        rewards: they count by name, weight and code, in their order.

    Raises:
        LabkitError: the code of a callback or a reward cannot be read.
    """
    functions = zip(rewards.functions.items(), rewards.weights, strict=True)
    known = [[name, weight, *code_of(function, "reward")] for (name, function), weight in functions]
    made = _identity(model, method, config, {"asked": _digest(asked)}, callbacks)
    return made | json.loads(json.dumps({"rl": asdict(rl), "rewards": known}))


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
    rewards: Rewards,
) -> dict[str, Any]:
    """Return the same of a run that learns from rewards. These count by name and weight, so that they can be fixed."""
    made = {"model": base, "method": method.to_dict(), "settings": asdict(config), "data": _digest(asked)}
    return made | {"rl": asdict(rl), "rewards": dict(zip(rewards.functions, rewards.weights, strict=True))}


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


def _digest(asked: Sequence[Any]) -> str:
    return hashlib.sha256(json.dumps(asked, default=str).encode()).hexdigest()[:16]


def _identity(
    model: Model, method: Method, config: TrainingConfig, data: dict[str, Any], callbacks: Sequence[Callback]
) -> dict[str, Any]:
    made = {
        "model": weights_of(model),
        "method": method.to_dict(),
        "settings": asdict(config),
        "data": data,
        "callbacks": [code_of(callback, "callback") for callback in callbacks],
        "versions": {"labkit": _own_code()} | {package: version(package) for package in PACKAGES},
    }
    return json.loads(json.dumps(made))


@cache
def _own_code() -> str:
    """Return 16 hexadecimal digits of labkit's own code: a version number may stay while it changes."""
    root = Path(__file__).parents[1]
    files = [file for part in CODE for file in ([root / part] if "." in part else (root / part).glob("*.py"))]
    digest = hashlib.sha256()
    for file in sorted(files):
        digest.update(file.name.encode() + file.read_bytes())
    return digest.hexdigest()[:16]
