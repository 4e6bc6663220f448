"""Adapters on disk, in the format of PEFT: adapter_model.safetensors and adapter_config.json."""

from __future__ import annotations

import json
from pathlib import Path

from safetensors.torch import save_file

from labkit.errors import LabkitError
from labkit.methods.adapter import Adapter, adapters_of
from labkit.models.model import Model
from labkit.storage.cache import write_text
from labkit.storage.records import read_tensors

WEIGHTS = "adapter_model.safetensors"
PREFIX = "base_model.model."  # PEFT wraps a model twice, as its names show


def save(config: dict, model: Model, folder: Path) -> None:
    """Write the trained tensors of every adapter, and what PEFT needs to put them on ``model``'s base.

    Raises:
        LabkitError: the model has no adapter.
    """
    tensors = {
        f"{_prefix(path, adapter)}{key}": value.detach().cpu().contiguous()
        for path, adapter in adapters_of(model).items()
        for key, value in adapter.factors().items()
    }
    if not tensors:
        raise LabkitError(
            f"{model.name} has no adapter to save: it was merged, or never had one.",
            "Save the model that was trained, before it is merged.",
        )
    save_file(tensors, folder / WEIGHTS)
    every = {
        "base_model_name_or_path": model.name,
        "task_type": "CAUSAL_LM" if model.kind == "causal" else "FEATURE_EXTRACTION",
        "inference_mode": True,
    }
    write_text(folder / "adapter_config.json", json.dumps(config | every, indent=1) + "\n")


def load(model: Model, folder: Path) -> None:
    """Put saved tensors into the adapters that ``model`` has already.

    Raises:
        LabkitError: the file is missing or damaged, or the adapter is for other layers or sizes than the model's.
    """
    tensors = read_tensors(folder / WEIGHTS, model.device)
    for path, adapter in adapters_of(model).items():
        expected = adapter.factors()
        prefix = _prefix(path, adapter)
        found = {key: tensors.pop(f"{prefix}{key}", None) for key in expected}
        for key, value in expected.items():
            if found[key] is None or found[key].shape != value.shape:
                shape = "missing" if found[key] is None else f"{tuple(found[key].shape)}"
                raise _other_model(folder, f"{path}.{key} is {shape} there and {tuple(value.shape)} here")
        adapter.set_factors(found)
    if tensors:
        raise _other_model(folder, f"{next(iter(tensors)).removeprefix(PREFIX)} is not in the model")


def _prefix(path: str, adapter: Adapter) -> str:
    return f"{PREFIX}{path}." if adapter.of_layer else ""


def _other_model(folder: Path, what: str) -> LabkitError:
    return LabkitError(
        f"The adapter in {folder} does not fit: {what}.",
        "Load it onto the model that it was trained on, with the same settings.",
    )
