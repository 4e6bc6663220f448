"""A model's configuration: its architecture and sizes, without its weights."""

from __future__ import annotations

from pathlib import Path

from transformers import AutoConfig, PretrainedConfig

from labkit.errors import LabkitError
from labkit.models.blueprints import BLUEPRINTS, blueprint_config
from labkit.models.model import Model, locate
from labkit.storage import cache


def find_config(model: str | Path | Model | PretrainedConfig) -> tuple[str, PretrainedConfig]:
    """Return a model's name and configuration; no weights are loaded.

    Raises:
        LabkitError: there is no such model, or it needs code of its own.
    """
    if isinstance(model, PretrainedConfig):
        return Path(model.name_or_path).name or model.model_type, model
    if isinstance(model, Model):
        return model.name, model.module.config
    if not isinstance(model, str | Path) or not str(model):
        raise LabkitError(f"{model!r} is no model.", 'Pass a name such as "llama-7b", a folder, or a loaded model.')
    if model in BLUEPRINTS:
        return model, blueprint_config(model)
    folder = locate(str(model), weights=False, others=BLUEPRINTS)
    try:
        config = AutoConfig.from_pretrained(
            folder, trust_remote_code=False, local_files_only=cache.offline() or Path(folder).is_dir()
        )
    except Exception as problem:  # what a broken config.json can raise is the library's affair
        raise LabkitError(
            f"The configuration of {model} could not be read: {str(problem).strip().splitlines()[0]}",
            "It needs a config.json of a known architecture. Models that bring their own code are not run.",
        ) from problem
    return Path(folder).name, config
