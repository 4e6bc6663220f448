"""A model's configuration: its architecture and sizes, without its weights."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from transformers import AutoConfig, PretrainedConfig

from labkit.assets import cache
from labkit.assets.blueprints import BLUEPRINTS, blueprint_config
from labkit.assets.fetch import ensure
from labkit.assets.manifest import load_manifest
from labkit.assets.models import Model
from labkit.errors import LabkitError, unknown
from labkit.methods import LoRA, Method, QLoRA

UNLIMITED = 2**20  # tokens, where a configuration names no limit


def find_config(model: str | Path | Model | PretrainedConfig) -> tuple[str, PretrainedConfig]:
    """Return a model's name and configuration; no weights are loaded.

    Raises:
        LabkitError: there is no such model, or it needs code of its own.
    """
    if isinstance(model, PretrainedConfig):
        return model.model_type, model
    if isinstance(model, Model):
        return model.name, model.module.config
    model = str(model) if isinstance(model, Path) else model
    if not isinstance(model, str) or not model:
        raise LabkitError(f"{model!r} is no model.", 'Pass a name such as "llama-7b", a folder, or a loaded model.')
    if model in BLUEPRINTS:
        return model, blueprint_config(model)
    assets = [asset.name for asset in load_manifest().values() if asset.kind == "model"]
    folder = str(ensure(model)) if model in assets else str(Path(model).expanduser())
    if not Path(folder).is_dir() and (folder.count("/") != 1 or folder.startswith((".", "/"))):
        raise unknown(
            "model", model, sorted({*BLUEPRINTS, *assets}), " A folder with a config.json or a hub name works too."
        )
    try:
        return Path(folder).name, AutoConfig.from_pretrained(
            folder, trust_remote_code=False, local_files_only=cache.offline() or Path(folder).is_dir()
        )
    except Exception as problem:  # what a broken config.json can raise is the library's affair
        raise LabkitError(
            f"The configuration of {model} could not be read: {str(problem).strip().splitlines()[0]}",
            "It needs a config.json of a known architecture. Models that bring their own code are not run.",
        ) from problem


def method_on(model: Model, method: Method) -> Method:
    """Return the method that a model's storage makes of another: LoRA on a model in 4 bits is QLoRA."""
    if model.quantization and type(method) is LoRA:
        return QLoRA(**asdict(method), **asdict(model.quantization))
    return method


def longest_of(config: PretrainedConfig) -> int:
    """Return how many tokens a model can read at once."""
    return getattr(config, "max_position_embeddings", None) or UNLIMITED
