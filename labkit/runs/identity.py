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

from labkit.methods import Method
from labkit.models.fingerprint import fingerprint
from labkit.models.model import Model
from labkit.runs.run import describe
from labkit.training.batching import Example
from labkit.training.callbacks import Callback, Every
from labkit.training.config import TrainingConfig
from labkit.training.identity import digest_of

PACKAGES = ("torch", "transformers")
# The parts of labkit that a run's numbers come from.
CODE = ("evaluation", "methods", "models", "quant", "training", "preparation.py")


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


def _code_of(callback: Callback) -> list[Any]:
    measure = callback.measure if isinstance(callback, Every) else callback
    code: Any = measure if inspect.isroutine(measure) else type(measure)
    try:
        source = hashlib.sha256(inspect.getsource(code).encode()).hexdigest()[:16]
    except (OSError, TypeError):  # typed into a plain Python prompt, or not written in Python
        source = ""
    return [callback.steps if isinstance(callback, Every) else 0, code.__qualname__, source]


@cache
def _own_code() -> str:
    """Return 16 hexadecimal digits of labkit's own code: a version number may stay while it changes."""
    root = Path(__file__).parents[1]
    files = [file for part in CODE for file in ([root / part] if "." in part else (root / part).glob("*.py"))]
    digest = hashlib.sha256()
    for file in sorted(files):
        digest.update(file.name.encode() + file.read_bytes())
    return digest.hexdigest()[:16]
