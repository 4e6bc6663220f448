"""Meta models: all shapes and no numbers, on torch's device ``meta``, so that any size takes no memory."""

from __future__ import annotations

import copy
from types import SimpleNamespace
from typing import cast

import torch
from torch import nn
from transformers import AutoModel, AutoModelForCausalLM, PretrainedConfig, PreTrainedTokenizerBase

from labkit.errors import LabkitError, unknown
from labkit.models.architectures import ARCHITECTURES
from labkit.models.config import blueprint_config
from labkit.models.model import Model
from labkit.models.precision import store_linear_weights


def kind_to_plan(config: PretrainedConfig) -> str:
    """Return a model's kind, ``"causal"`` or ``"encoder"``.

    Raises:
        LabkitError: labkit cannot predict such a model's memory.
    """
    planned = {name: known.kind for name, known in ARCHITECTURES.items() if known.planned}
    if config.model_type not in planned:
        raise unknown("model type", config.model_type, planned, " labkit can plan only for these.")
    return planned[config.model_type]


def blueprint(name: str) -> Model:
    """Return a causal model of published size on torch's device ``meta``, in seconds and without its memory.

    It can be adapted, counted and printed like any other, but has no numbers and no tokenizer.
    """
    with torch.device("meta"):
        module = AutoModelForCausalLM.from_config(blueprint_config(name), dtype=torch.bfloat16)
    no_tokenizer = cast(PreTrainedTokenizerBase, None)  # there is nothing to read with these weights
    return Model(name, module.eval(), no_tokenizer, "causal", torch.bfloat16)


def meta_model(config: PretrainedConfig, precision: torch.dtype, classes: int = 2, layers: int | None = None) -> Model:
    """Return a model as ``load_model`` would store it, on torch's device ``meta``.

    Args:
        config: its architecture and sizes.
        precision: the type of matrix products.
        classes: of an encoder's head.
        layers: how many blocks, instead of the configuration's number.
    """
    kind = kind_to_plan(config)
    config = copy.deepcopy(config)
    if layers is not None:
        config.num_hidden_layers = layers
        if getattr(config, "layer_types", None):
            config.layer_types = config.layer_types[:layers]
    loader = AutoModelForCausalLM if kind == "causal" else AutoModel
    with torch.device("meta"):
        module = loader.from_config(config, dtype=torch.float32, trust_remote_code=False)
        head = nn.Linear(config.hidden_size, classes) if kind == "encoder" else None
    store_linear_weights(module, precision)
    padding = cast(PreTrainedTokenizerBase, SimpleNamespace(pad_token_id=0))  # all that a step asks of a tokenizer
    return Model(config.model_type, module.eval(), padding, kind, precision, head)


def blocks_of(module: nn.Module, count: int) -> tuple[str, ...]:
    """Return the paths of a model's blocks.

    Raises:
        LabkitError: it has no list of that many.
    """
    for path, inner in module.named_modules():
        if isinstance(inner, nn.ModuleList) and len(inner) == count:
            return tuple(f"{path}.{index}" for index in range(count))
    raise LabkitError("This model has no list of blocks.", "Use a model of an architecture that labkit can plan for.")
