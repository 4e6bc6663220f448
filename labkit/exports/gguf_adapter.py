"""Write a LoRA adapter as a GGUF file, which llama.cpp puts on a base model that it has loaded."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import cast

import gguf
import numpy as np
from gguf.quants import dequantize

from labkit.exports.errors import ExportError
from labkit.exports.gguf_check import AGAIN, opened
from labkit.exports.gguf_model import new_gguf
from labkit.exports.gguf_weights import require_llama, to_llama_cpp
from labkit.methods.adapter import adapters_of
from labkit.methods.lora import LoRALinear
from labkit.methods.lora_variants import DoRALinear
from labkit.models.model import Model

ALPHA = "adapter.lora.alpha"


def write_gguf_adapter(model: Model, path: str | Path) -> None:
    """Write the LoRA adapter of a Llama as llama.cpp's convert_lora_to_gguf.py does: A and B in float32, and alpha.

    llama.cpp scales the update with alpha/rank, whatever the scale was called in training: rank-stabilized LoRA and
    PiSSA get the alpha that gives their scale.

    Raises:
        ExportError: the model has no adapter, or one that a GGUF adapter cannot hold.
        LabkitError: the disk is full.
    """
    layers, config = _lora_layers(model), require_llama(model)
    meta = {
        "general.type": "adapter",
        "general.name": f"adapter of {model.name}",
        "adapter.type": "lora",
        ALPHA: next(_alphas(layers)),
    }
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    with new_gguf(path, meta) as writer:
        for at, layer in layers.items():
            A, B = (value.detach().float().cpu() for value in layer.adapter_state().values())
            B = to_llama_cpp(f"{at}.weight", B, config)  # the rows of B are those of the weight
            for end, value in (("a", A), ("b", B)):
                writer.add_tensor(f"{names.get_name(at)}.weight.lora_{end}", value.contiguous().numpy())


def check_gguf_adapter(model: Model, path: str | Path) -> float:
    """Compare the updates that a GGUF adapter makes with those of the model's own adapter.

    Returns:
        The largest difference of a layer's update, as a share of the largest number in it.

    Raises:
        ExportError: the file is damaged or not this adapter.
    """
    layers, config, reader = _lora_layers(model), require_llama(model), opened(path)
    alpha = reader.fields[ALPHA].contents() if ALPHA in reader.fields else 0.0
    stored = {tensor.name: dequantize(tensor.data, tensor.tensor_type) for tensor in reader.tensors}
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    largest, faults = 0.0, []
    for at, layer in layers.items():
        name = f"{names.get_name(at)}.weight"
        A, B = (stored.pop(f"{name}.lora_{end}", None) for end in "ab")
        if A is None or B is None:
            faults.append(f"the update of {name} is missing")
            continue
        scale = alpha / len(A) if alpha else 1.0  # as llama.cpp has it
        expected = to_llama_cpp(f"{at}.weight", layer.delta().detach().cpu(), config).numpy()
        off = _share(scale * (B @ A), expected)
        largest = max(largest, off)
        if not off <= 1e-4:
            same = _share(layer.scale * (B @ A), expected) <= 1e-4
            why = f"it is scaled with {scale:g} instead of {layer.scale:g}" if same else f"it is off by {off:.0%}"
            faults.append(f"the update of {name} is another, {why}")
    faults += [f"{name} is not of this adapter" for name in stored]
    if faults:
        raise ExportError(
            f"{Path(path).name} is not the adapter of {model.name}: {'; '.join(faults[:3])} ({len(faults)} faults).",
            AGAIN,
        )
    return largest


def _lora_layers(model: Model) -> dict[str, LoRALinear]:
    """Return the layers with a LoRA adapter, or raise where there are none, or others."""
    layers, fault = adapters_of(model), ""
    odd = next(
        (each for each in layers.values() if not isinstance(each, LoRALinear) or isinstance(each, DoRALinear)), None
    )
    if not layers:
        fault = "it has no adapter"
    elif odd is not None:
        fault = f"its {type(odd).__name__} is more than a product of two matrices"
    elif "lm_head" in layers and model.module.config.tie_word_embeddings:
        fault = (
            "its adapter changes the head, which is tied to the word vectors: llama.cpp has no head of its own there"
        )
    elif len({*_alphas(cast(dict[str, LoRALinear], layers))}) > 1:
        fault = "its layers have several scales, and the file has place for one"
    if fault:
        raise ExportError(
            f"No GGUF adapter can be made of {model.name}: {fault}.",
            "Train with LoRA or QLoRA, or export the whole model as GGUF.",
        )
    return cast(dict[str, LoRALinear], layers)


def _alphas(layers: dict[str, LoRALinear]) -> Iterator[float]:
    for layer in layers.values():
        rank = len(next(iter(layer.adapter_state().values())))  # PiSSA's change has twice the rank
        yield float(layer.scale * rank)


def _share(found: np.ndarray, expected: np.ndarray) -> float:
    if found.shape != expected.shape:
        return float("inf")
    return float(np.abs(found - expected).max() / max(np.abs(expected).max(), 1e-30))
