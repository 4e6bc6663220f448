"""Read a GGUF file back and compare it with the model: what it says, and every weight."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from gguf.quants import dequantize

from labkit.errors import shown
from labkit.exports.errors import ExportError
from labkit.exports.gguf_model import Type, metadata, stored_type
from labkit.exports.gguf_weights import named_weights, require_llama
from labkit.exports.likeness import first_difference
from labkit.models.model import Model

# What users call the keys whose loss makes an exported model answer badly.
KEYS = {
    "tokenizer.chat_template": "the chat template",
    "tokenizer.ggml.eos_token_id": "the token that ends a text",
    "tokenizer.ggml.eot_token_id": "the token that ends a turn",
    "tokenizer.ggml.pre": "the way that texts are split before merges",
    "llama.rope.freq_base": "the base of the rotary positions",
}
AGAIN = "Export the model again, and change nothing in the file."
NEVER = 2.0**-24  # the smallest number above 0 in 16 bits: what is below half of it is stored as 0


def check_gguf(model: Model, path: str | Path, kind: str) -> dict[str, float]:
    """Compare a GGUF file with the model that it was written from.

    Weights in 16 bits must be the model's, rounded once; those in 8 and 4 bits may be off by half a step of their
    block of 32 (in 4 bits by a whole one, where the block's end that has fewer levels is cut off).

    Args:
        model: what was exported.
        path: the file.
        kind: how its matrices should be stored.

    Returns:
        The largest error of a weight by how it is stored, as a share of the largest number in its block or, in
        floats, of the weight itself.

    Raises:
        ExportError: the file is damaged or not the same model; all that differs is named.
    """
    config, reader = require_llama(model), opened(path)
    found = {name: field.contents() for name, field in reader.fields.items()}
    expected = metadata(model, kind) | {"general.architecture": "llama"}
    faults = list(_other_metadata(expected, found))
    stored = {tensor.name: tensor for tensor in reader.tensors}
    errors: dict[str, float] = {}
    for name, weight in named_weights(model):
        if (tensor := stored.pop(name, None)) is None:
            tied = " The head of this model is not tied to the word vectors." if name == "output.weight" else ""
            faults.append(f"{name} is missing.{tied}")
            continue
        value = dequantize(tensor.data, tensor.tensor_type)
        if tensor.tensor_type != stored_type(name, weight.ndim, kind) or value.shape != weight.shape:
            faults.append(f"{name} is {tensor.tensor_type.name} of shape {value.shape}, not {weight.shape} of {kind}.")
            continue
        share, allowed = _error(weight, value, tensor.tensor_type)
        errors[tensor.tensor_type.name] = max(share, errors.get(tensor.tensor_type.name, 0.0))
        if not share <= allowed:
            faults.append(f"{name} {_how(name, weight, value, tensor.tensor_type, config)}.")
    faults += [f"{name} is not of this model{_head(name)}." for name in stored]
    if faults:
        more = f" And {len(faults) - 5} more." if len(faults) > 5 else ""
        raise ExportError(
            f"{Path(path).name} is not {model.name}: {' '.join(faults[:5])}{more}",
            AGAIN,
        )
    return errors


class _Reader(gguf.GGUFReader):
    """The package's reader on a plain view of the file: as a memmap, each of 250,000 slices is slow to make."""

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, np.asarray(value) if isinstance(value, np.memmap) else value)


def opened(path: str | Path) -> gguf.GGUFReader:
    """Return a reader of a GGUF file; raise an ``ExportError`` where it is damaged."""
    try:
        return _Reader(path)
    except (ValueError, IndexError, OSError, KeyError) as problem:
        raise ExportError(
            f"{Path(path).name} cannot be read as GGUF: it is missing, damaged or another kind of file.",
            AGAIN,
        ) from problem


def _other_metadata(expected: dict[str, Any], found: dict[str, Any]) -> Iterator[str]:
    for key, value in expected.items():
        here = found.get(key)
        if isinstance(value, float) and here is not None:
            same = np.float32(value) == np.float32(here)
        else:
            same = here == value or (value == "" and here is None)  # the package writes no empty text
        if not same:
            what = f"{KEYS[key]} ({key})" if key in KEYS else key
            if isinstance(value, str) and isinstance(here, str) and len(value) > 60:
                yield f"{what} has {first_difference(here, value)}."
            else:
                yield f"{what} is {'missing' if here is None else shown(here)}, not {shown(value)}."


def _error(weight: np.ndarray, value: np.ndarray, kind: gguf.GGMLQuantizationType) -> tuple[float, float]:
    """Return the largest error of a weight and the largest allowed one, both as the shares of ``check_gguf``."""
    off = np.abs(weight - value)
    if kind in {Type.F32, Type.F16}:
        off = np.where(off <= NEVER / 2, 0, off)
        return float((off / np.maximum(np.abs(weight), NEVER)).max()), 0.0 if kind is Type.F32 else 2.0**-11
    largest = np.abs(weight).reshape(-1, 32).max(axis=1)
    # The scale is rounded to 16 bits as well: by 2⁻¹¹ of itself, or where it is tiny by half of NEVER.
    off = np.maximum(off.reshape(-1, 32).max(axis=1) - 128 * NEVER / 2, 0)
    share = float((off / np.maximum(largest, NEVER)).max())
    return share, (1 / 254 if kind is Type.Q8_0 else 1 / 8) + 2.0**-11


def _how(name: str, weight: np.ndarray, value: np.ndarray, kind: gguf.GGMLQuantizationType, config: Any) -> str:
    """Return how a weight differs, in words."""
    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}.get(name.split(".")[-2])
    if heads:  # llama.cpp's neighbouring pairs put back into the halves that transformers has
        pairs = weight.reshape(heads, -1, 2, weight.shape[1])
        share, allowed = _error(
            np.concatenate([pairs[:, :, 0], pairs[:, :, 1]], axis=1).reshape(weight.shape), value, kind
        )
        if share <= allowed:
            return "has its rows in the order of transformers: llama.cpp would turn the wrong pairs by position"
    alike = float(np.corrcoef(weight.flatten()[:100_000], value.flatten()[:100_000])[0, 1])
    return f"has other values (correlation with the model's {alike:.2f}){_head(name)}"


def _head(name: str) -> str:
    return ": the head, which this model ties to the word vectors" if name == "output.weight" else ""
