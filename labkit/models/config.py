"""A model's configuration: its architecture and sizes, without its weights; those of published models."""

from __future__ import annotations

from pathlib import Path

from transformers import AutoConfig, PretrainedConfig

from labkit.errors import LabkitError, first_line, unknown
from labkit.models.load import locate
from labkit.models.model import Model
from labkit.storage import cache

_SMOLLM2 = {
    "model_type": "llama",
    "vocab_size": 49152,
    "max_position_embeddings": 8192,
    "tie_word_embeddings": True,
}
_LLAMA = {"model_type": "llama", "vocab_size": 32000, "tie_word_embeddings": False}
_LLAMA3 = {
    "model_type": "llama",
    "vocab_size": 128256,
    "num_key_value_heads": 8,
    "max_position_embeddings": 8192,
    "tie_word_embeddings": False,
}


def _shape(hidden: int, mlp: int, layers: int, heads: int) -> dict:
    return {
        "hidden_size": hidden,
        "intermediate_size": mlp,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
    }


# Sizes from the papers and model cards: Ben Allal et al., 2025, arXiv:2502.02737; Touvron et al., 2023,
# arXiv:2302.13971, table 2; Llama team, 2024, arXiv:2407.21783, table 3; Qwen team, 2024, arXiv:2412.15115;
# Brown et al., 2020, arXiv:2005.14165, table 2.1.
BLUEPRINTS: dict[str, dict] = {
    "smollm2-135m": _SMOLLM2 | _shape(576, 1536, 30, 9) | {"num_key_value_heads": 3},
    "smollm2-360m": _SMOLLM2 | _shape(960, 2560, 32, 15) | {"num_key_value_heads": 5},
    "smollm2-1.7b": _SMOLLM2 | _shape(2048, 8192, 24, 32),
    "llama-7b": _LLAMA | _shape(4096, 11008, 32, 32),
    "llama-13b": _LLAMA | _shape(5120, 13824, 40, 40),
    "llama-33b": _LLAMA | _shape(6656, 17920, 60, 52),
    "llama-65b": _LLAMA | _shape(8192, 22016, 80, 64),
    "llama-3-8b": _LLAMA3 | _shape(4096, 14336, 32, 32),
    "llama-3-70b": _LLAMA3 | _shape(8192, 28672, 80, 64),
    "llama-3.1-405b": _LLAMA3 | _shape(16384, 53248, 126, 128) | {"max_position_embeddings": 131072},
    "qwen2.5-7b": {"model_type": "qwen2", "vocab_size": 152064, "num_key_value_heads": 4, "tie_word_embeddings": False}
    | _shape(3584, 18944, 28, 28),
    # OPT is GPT-3's architecture with q, k and v as layers of their own, which is what LoRA's paper adapts.
    "gpt3-175b": {
        "model_type": "opt",
        "vocab_size": 50257,
        "max_position_embeddings": 2048,
        "hidden_size": 12288,
        "word_embed_proj_dim": 12288,
        "ffn_dim": 49152,
        "num_hidden_layers": 96,
        "num_attention_heads": 96,
    },
}


def blueprint_config(name: str) -> PretrainedConfig:
    """Return the configuration of a published model.

    Raises:
        LabkitError: no blueprint has that name.
    """
    if name not in BLUEPRINTS:
        raise unknown("blueprint", name, BLUEPRINTS)
    settings = dict(BLUEPRINTS[name])
    return AutoConfig.for_model(settings.pop("model_type"), **settings)


def find_config(model: str | Path | Model | PretrainedConfig) -> tuple[str, PretrainedConfig]:
    """Return a model's name and configuration; no weights are loaded.

    Raises:
        LabkitError: there is no such model, or it needs code of its own.
    """
    if isinstance(model, PretrainedConfig):
        return Path(model.name_or_path or "").name or model.model_type, model
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
            f"The configuration of {model} could not be read: {first_line(problem)}",
            "It needs a config.json of a known architecture. Models that bring their own code are not run.",
        ) from problem
    return Path(folder).name, config
