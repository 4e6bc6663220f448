"""LoRA adapters on disk, in the format of PEFT: adapter_model.safetensors and adapter_config.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors.torch import load_file, save_file

from labkit.assets.models import Model
from labkit.errors import LabkitError
from labkit.methods.targets import as_list

if TYPE_CHECKING:
    from labkit.methods.lora import LoRA, LoRALinear

PREFIX = "base_model.model."  # PEFT wraps a model twice, and its names tell


def save(method: LoRA, model: Model, folder: Path) -> None:
    """Write the factors of every adapted layer, and what PEFT needs to put them on ``model``'s base."""
    tensors = {}
    for path, layer in adapted_layers(model).items():
        tensors |= {f"{PREFIX}{path}.{key}": value for key, value in layer.factors().items()}
    save_file(
        {key: value.detach().cpu().contiguous() for key, value in tensors.items()}, folder / "adapter_model.safetensors"
    )
    pissa = method.variant == "pissa"  # saved as the LoRA of twice the rank that it is
    rank = 2 * method.rank if pissa else method.rank
    targets = method.target_modules
    config = {
        "peft_type": "LORA",
        "base_model_name_or_path": model.name,
        "task_type": "CAUSAL_LM" if model.kind == "causal" else "FEATURE_EXTRACTION",
        "r": rank,
        "lora_alpha": method.scale * rank if pissa else method.alpha,
        "lora_dropout": method.dropout,
        "target_modules": targets if targets == "all-linear" else as_list(targets),
        "use_rslora": method.rslora and not pissa,
        "use_dora": method.variant == "dora",
        "inference_mode": True,
    }
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=1))


def load(model: Model, folder: Path) -> None:
    """Put saved factors into ``model``, whose layers are adapted already.

    Raises:
        LabkitError: the adapter has other layers or sizes than the model.
    """
    tensors = load_file(folder / "adapter_model.safetensors", device=str(model.device))
    layers = adapted_layers(model)
    for path, layer in layers.items():
        expected = layer.factors()
        found = {key: tensors.pop(f"{PREFIX}{path}.{key}", None) for key in expected}
        for key, value in expected.items():
            if found[key] is None or found[key].shape != value.shape:
                shape = "missing" if found[key] is None else f"{tuple(found[key].shape)}"
                raise _other_model(folder, f"{path}.{key} is {shape} there and {tuple(value.shape)} here")
        layer.set_factors(found)
    if tensors:
        raise _other_model(folder, f"{next(iter(tensors)).removeprefix(PREFIX)} is not in the model")


def adapted_layers(model: Model) -> dict[str, LoRALinear]:
    """Return the model's LoRA layers by their path."""
    return {path: layer for path, layer in model.module.named_modules() if hasattr(layer, "lora_A")}


def require_no_adapter(model: Model) -> None:
    """Raise a ``LabkitError`` where ``model`` has LoRA layers."""
    if adapted_layers(model):
        raise LabkitError(
            f"{model.name} has an adapter already.",
            "Make it part of the weights first, with lk.merge(model), or start from the base model.",
        )


def _other_model(folder: Path, what: str) -> LabkitError:
    return LabkitError(
        f"The adapter in {folder} does not fit: {what}.",
        "Load it onto the model, and with the settings, that it was trained with.",
    )
