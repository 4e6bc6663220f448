"""The factors of a LoRA, layer by layer: those of a tuned model, or those in a file of PEFT's format."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from labkit.errors import LabkitError, require_count, require_number, shown
from labkit.methods.adapter import Adapter, adapters_of
from labkit.methods.adapter_files import PREFIX, WEIGHTS
from labkit.methods.lora import OTHER, LoRALinear
from labkit.methods.lora_variants import PiSSALinear
from labkit.models.model import Model
from labkit.quant.layers import LinearLayer
from labkit.quant.matrix import sides
from labkit.storage.records import damaged, read_tensors

CONFIG = "adapter_config.json"
# PEFT's initial values that leave the base weights alone.
STARTS = (True, False, "gaussian", "orthogonal", "eva", "mica")


@dataclass(frozen=True)
class Factors:
    """The update s·BA of a layer's weight.

    Attributes:
        A: shape (rank, in), in float32.
        B: shape (out, rank), in float32.
        scale: s.
    """

    A: torch.Tensor
    B: torch.Tensor
    scale: float

    def around(self, layer: LinearLayer) -> LoRALinear:
        """Return ``layer`` with this update; layer and factors stay in the memory that they are in."""
        made = LoRALinear(layer, len(self.A), self.scale)
        device = layer.weight.device
        made.lora_A, made.lora_B = nn.Parameter(self.A.to(device)), nn.Parameter(self.B.to(device))
        return made


def factors_of(model: Model, name: str) -> dict[str, Factors]:
    """Return the factors in a tuned model by the path of their layer. They share its memory; PiSSA's rank is twice r.

    Args:
        model: what LoRA or QLoRA tuned.
        name: what an error calls it.

    Raises:
        LabkitError: it has no adapter, or one that isn't s·BA.
    """
    found = adapters_of(model)
    if not found:
        raise LabkitError(
            f"{name} has no adapter: it was merged or tuned as a whole, or never tuned.", "Pass a run of LoRA or QLoRA."
        )
    return {path: _of(layer, name) for path, layer in found.items()}


def _of(layer: Adapter, name: str) -> Factors:
    if not isinstance(layer, LoRALinear) or type(layer) not in (LoRALinear, PiSSALinear):  # variants compute otherwise
        raise _not_lora(name, f"it has a {type(layer).__name__}")
    A, B = layer.adapter_state().values()
    return Factors(A.detach(), B.detach(), layer.scale)


def read_factors(folder: Path, name: str) -> tuple[dict[str, Factors], str]:
    """Return the factors in a folder of PEFT's format by the path of their layer, and the name of their base.

    Raises:
        LabkitError: a file is missing or damaged, or holds something other than a LoRA's factors.
    """
    config = _config(folder / CONFIG)
    if config.get("peft_type") != "LORA":
        raise _not_lora(name, f"{folder / CONFIG} says {config.get('peft_type')}")
    for key in ("use_dora", *OTHER):
        if config.get(key):
            raise _not_lora(name, f"{folder / CONFIG} sets {key}")
    if (start := config.get("init_lora_weights", True)) not in STARTS:
        raise _not_lora(name, f"init_lora_weights={start!r} changed the weights of the base as well")
    tensors = read_tensors(folder / WEIGHTS)
    paths = [key.removesuffix(".lora_A.weight") for key in tensors if key.endswith(".lora_A.weight")]
    made = {path.removeprefix(PREFIX): _made(tensors, path, config, folder) for path in paths}
    if tensors or not made:
        raise _not_lora(name, f"{folder / WEIGHTS} holds {next(iter(tensors), 'nothing')}")
    trained_on = config.get("base_model_name_or_path")
    return made, trained_on if isinstance(trained_on, str) else ""


def _made(tensors: dict[str, torch.Tensor], path: str, config: dict, folder: Path) -> Factors:
    rslora = config.get("use_rslora")
    A, B = (tensors.pop(f"{path}.lora_{side}.weight", torch.empty(0)).float() for side in "AB")
    if rslora not in (None, True, False):
        raise damaged(folder / CONFIG, f"use_rslora is {shown(rslora)}")
    if A.dim() != 2 or B.dim() != 2 or len(A) != B.shape[1]:
        raise damaged(folder / WEIGHTS, f"{path} has factors of shapes {tuple(A.shape)} and {tuple(B.shape)}")
    rank = require_count("rank", len(A))
    alpha = require_number("lora_alpha", config.get("lora_alpha", 8), above=0)
    return Factors(A, B, alpha / (math.sqrt(rank) if rslora else rank))


def require_fit(factors: Mapping[str, Factors], base: Model, name: str, trained_on: str) -> None:
    """Raise a ``LabkitError`` where ``base`` lacks a layer of an adapter, or has it in another size."""
    layers = dict(base.module.named_modules())
    for path, each in factors.items():
        layer = layers.get(path)
        there = (each.A.shape[1], each.B.shape[0])
        here = sides(layer) if isinstance(layer, LinearLayer) else None
        if here != there:
            size = f"is {here[1]} × {here[0]}" if here else "is no linear layer"
            raise LabkitError(
                f"{name}, trained on {trained_on or 'an unnamed model'}, does not fit {base.name}: "
                f"{path} is {there[1]} × {there[0]} there and {size} here.",
                "All adapters need the base model that they were trained on.",
            )


def _config(path: Path) -> dict:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise LabkitError(
            f"{path.parent} holds no adapter: there is no {path.name}.",
            "Pass a run of LoRA or QLoRA, its model, or a folder that run.save or PEFT wrote.",
        ) from None
    except (OSError, ValueError, RecursionError) as problem:
        raise damaged(path, f"it is damaged ({type(problem).__name__})") from problem
    if not isinstance(config, dict):
        raise damaged(path, f"it holds {shown(config)}")
    return config


def _not_lora(name: str, why: str) -> LabkitError:
    return LabkitError(
        f"{name} is no plain LoRA: {why}.",
        "Use adapters of LoRA, QLoRA or PiSSA; another kind works as a model of its own.",
    )
