"""Adapters on disk, in the format of PEFT: adapter_model.safetensors and adapter_config.json."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import save_file

from labkit.errors import LabkitError, shown
from labkit.models.model import Model
from labkit.storage.files import write_text
from labkit.storage.records import damaged, read_tensors

if TYPE_CHECKING:
    from labkit.methods.adapter import Adapter

WEIGHTS = "adapter_model.safetensors"
PREFIX = "base_model.model."  # PEFT wraps a model twice, as its names show


def save(config: dict, model: Model, adapters: Mapping[str, Adapter], folder: Path) -> None:
    """Write the trained tensors of a model's adapters, and what PEFT needs to put them on the base model.

    Raises:
        LabkitError: the model has no adapter.
    """
    tensors = {
        f"{_prefix(path, adapter)}{key}": value.detach().cpu().contiguous()
        for path, adapter in adapters.items()
        for key, value in adapter.adapter_state().items()
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


def load(adapters: Mapping[str, Adapter], folder: Path, device: torch.device) -> None:
    """Put saved tensors into the adapters of a model.

    Raises:
        LabkitError: the file is missing or damaged, or the adapter is for other layers or sizes than the model's.
    """
    tensors = read_tensors(folder / WEIGHTS, device)
    for path, adapter in adapters.items():
        state = {}
        for key, value in adapter.adapter_state().items():
            found = tensors.pop(f"{_prefix(path, adapter)}{key}", None)
            if found is None or found.shape != value.shape:
                shape = "missing" if found is None else f"{tuple(found.shape)}"
                raise _other_model(folder, f"{path}.{key} is {shape} there and {tuple(value.shape)} here")
            state[key] = found
        adapter.load_adapter_state(state)
    if tensors:
        raise _other_model(folder, f"{next(iter(tensors)).removeprefix(PREFIX)} is not in the model")


def require_settings(expected: Mapping, folder: Path, keys: Iterable[str], unknown: Iterable[str]) -> None:
    """Raise where a saved adapter was made with settings that no tensor shows, and that change what it computes.

    Args:
        expected: the adapter's configuration as the method would write it.
        folder: the saved adapter. One without a configuration passes.
        keys: settings that must be the same.
        unknown: settings of PEFT's that labkit doesn't have, and that must not be set.

    Raises:
        LabkitError: a setting differs, or the configuration cannot be read.
    """
    path = folder / "adapter_config.json"
    if not path.is_file():
        return
    try:
        there = dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, RecursionError) as problem:
        raise damaged(path, f"it is damaged ({type(problem).__name__})") from problem
    for key in unknown:
        if there.get(key):
            raise _other_model(folder, f"its {path.name} sets {key}={shown(there[key])}, which labkit's LoRA lacks")
    for key in keys:
        if key in there and there[key] != expected[key]:
            raise _other_model(folder, f"{key} is {shown(there[key])} there and {shown(expected[key])} here")


def _prefix(path: str, adapter: Adapter) -> str:
    return f"{PREFIX}{path}." if adapter.of_layer else ""


def _other_model(folder: Path, what: str) -> LabkitError:
    return LabkitError(
        f"The adapter in {folder} does not fit: {what}.",
        "Load it onto the model that it was trained on, with the same settings.",
    )
