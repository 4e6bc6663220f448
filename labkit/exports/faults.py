"""What goes wrong when models are exported, planted in copies of GGUF files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import gguf
import numpy as np

from labkit.errors import LabkitError, unknown
from labkit.exports.gguf_adapter import ALPHA
from labkit.exports.gguf_check import opened
from labkit.exports.gguf_model import new_gguf

Meta: TypeAlias = dict[str, Any]
Weights: TypeAlias = dict[str, tuple[np.ndarray, gguf.GGMLQuantizationType]]  # rows as they are stored


def _wrong_template(meta: Meta, weights: Weights) -> None:
    meta["tokenizer.chat_template"] = meta["tokenizer.chat_template"].replace("<|im_end|>", "")


def _missing_end(meta: Meta, weights: Weights) -> None:
    del meta["tokenizer.ggml.eos_token_id"]


def _wrong_rope(meta: Meta, weights: Weights) -> None:
    meta["llama.rope.freq_base"] /= 10


def _permuted(meta: Meta, weights: Weights) -> None:
    """Put the rows of queries and keys in transformers' order: llama.cpp's pairs 2i, 2i + 1 as i, i + size/2."""
    heads = {"attn_q": meta["llama.attention.head_count"], "attn_k": meta["llama.attention.head_count_kv"]}
    for name, (rows, kind) in weights.items():
        if count := heads.get(name.split(".")[-2]):
            pairs = rows.reshape(count, -1, 2, rows.shape[-1])
            weights[name] = np.ascontiguousarray(pairs.swapaxes(1, 2)).reshape(rows.shape), kind


def _lost_head(meta: Meta, weights: Weights) -> None:
    """Lose a head of its own; one that is tied to the word vectors gets rows of its own, in another order."""
    if weights.pop("output.weight", None) is None:
        rows, kind = weights["token_embd.weight"]
        weights["output.weight"] = np.ascontiguousarray(rows[::-1]), kind


def _forgotten_scale(meta: Meta, weights: Weights) -> None:
    del meta[ALPHA]


SCALE = "adapter scale forgotten"
FAULTS: dict[str, Callable[[Meta, Weights], None]] = {
    "wrong template": _wrong_template,
    "missing end token": _missing_end,
    "wrong rope base": _wrong_rope,
    "permuted q and k": _permuted,
    "lost tied head": _lost_head,
    SCALE: _forgotten_scale,
}


def plant(fault: str, path: str | Path, damaged: str | Path) -> Path:
    """Write a copy of a GGUF file with a fault, and return its path.

    Args:
        fault: a name in ``FAULTS``; the last is one of an adapter's file.
        path: a good file.
        damaged: the copy.

    Raises:
        LabkitError: unknown fault, or one that such a file cannot have.
    """
    if fault not in FAULTS:
        raise unknown("fault", fault, FAULTS)
    reader = opened(path)
    own = ("GGUF.", "general.architecture")  # what the writer adds by itself
    meta = {name: field.contents() for name, field in reader.fields.items() if not name.startswith(own)}
    weights = {tensor.name: (tensor.data, tensor.tensor_type) for tensor in reader.tensors}
    try:
        FAULTS[fault](meta, weights)
    except KeyError as problem:
        raise LabkitError(f"{Path(path).name} has no {problem}: it can't have that fault.", "Plant another.") from None
    with new_gguf(damaged, meta) as writer:
        for name, (rows, kind) in weights.items():
            writer.add_tensor(name, rows, raw_dtype=kind)
    return Path(damaged)
