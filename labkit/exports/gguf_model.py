"""Write a Llama as a GGUF file, which llama.cpp, Ollama and LM Studio run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from gguf.quants import quantize

from labkit.errors import unknown
from labkit.exports.errors import ExportError
from labkit.exports.gguf_tokenizer import tokenizer_metadata
from labkit.exports.gguf_weights import named_weights, require_llama
from labkit.models.model import Model
from labkit.storage.files import replacing

Type = gguf.GGMLQuantizationType
# How matrices are stored: in 16-bit floats, or in blocks of 32 whole numbers of 8 or 4 bits that share a 16-bit scale.
KINDS = {"f16": Type.F16, "q8_0": Type.Q8_0, "q4_0": Type.Q4_0}
FILE_TYPES = {"f16": "MOSTLY_F16", "q8_0": "MOSTLY_Q8_0", "q4_0": "MOSTLY_Q4_0"}
MOST = np.finfo(np.float16).max


def write_gguf(model: Model, path: str | Path, kind: str = "f16") -> None:
    """Write a Llama with its tokenizer and chat template into one GGUF file.

    The adapter of LoRA, QLoRA or IA3 becomes part of the weights. Norms stay in float32. With ``"q4_0"``, the word
    vectors and the head are stored as q8_0, because llama.cpp keeps these finer too.

    Args:
        model: a causal model of the Llama architecture, such as smollm2-135m.
        path: the file to write; it is never incomplete.
        kind: how matrices are stored: ``"f16"``, ``"q8_0"`` or ``"q4_0"``.

    Raises:
        ExportError: labkit can't write such a model or tokenizer as GGUF, or a weight does not fit the kind.
        LabkitError: unknown kind, the adapter is disabled, the disk is full.
    """
    if kind not in KINDS:
        raise unknown("kind of GGUF", kind, KINDS)
    meta = metadata(model, kind)  # refuse before the first byte
    with new_gguf(path, meta) as writer:
        for name, weight in named_weights(model):
            stored = stored_type(name, weight.ndim, kind)
            writer.add_tensor(name, _stored(name, weight, stored), raw_dtype=stored)


def metadata(model: Model, kind: str) -> dict[str, Any]:
    """Return what a file of this kind says about the model beside its weights."""
    config = require_llama(model)
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return {
        "general.type": "model",
        "general.name": model.name,
        "general.file_type": int(gguf.LlamaFileType[FILE_TYPES[kind]]),
        "general.quantization_version": gguf.GGML_QUANT_VERSION,
        "llama.block_count": config.num_hidden_layers,
        "llama.context_length": config.max_position_embeddings,
        "llama.embedding_length": config.hidden_size,
        "llama.feed_forward_length": config.intermediate_size,
        "llama.vocab_size": config.vocab_size,
        "llama.attention.head_count": config.num_attention_heads,
        "llama.attention.head_count_kv": config.num_key_value_heads,
        "llama.attention.key_length": head,
        "llama.attention.value_length": head,
        "llama.attention.layer_norm_rms_epsilon": float(config.rms_norm_eps),
        "llama.rope.dimension_count": head,
        "llama.rope.freq_base": float(config.rope_parameters["rope_theta"]),
        **tokenizer_metadata(model),
    }


def stored_type(name: str, dimensions: int, kind: str) -> gguf.GGMLQuantizationType:
    """Return how a weight is stored in a file of this kind."""
    if dimensions == 1:
        return Type.F32
    return Type.Q8_0 if kind == "q4_0" and name in {"token_embd.weight", "output.weight"} else KINDS[kind]


@contextmanager
def new_gguf(path: str | Path, meta: dict[str, Any]) -> Iterator[gguf.GGUFWriter]:
    """Yield a writer for tensors; the file appears when the block ends without an error."""
    with replacing(Path(path)) as temporary:
        writer = gguf.GGUFWriter(None, "llama")
        for key, value in meta.items():
            add: dict[type, Any] = {bool: writer.add_bool, int: writer.add_uint32, float: writer.add_float32}
            add |= {str: writer.add_string}
            add.get(type(value), writer.add_array)(key, value)
        yield writer
        try:
            writer.write_header_to_file(temporary)
            writer.write_kv_data_to_file()
            writer.write_tensors_to_file()
        finally:
            writer.close()


def _stored(name: str, weight: np.ndarray, kind: gguf.GGMLQuantizationType) -> np.ndarray:
    fault = ""
    if not np.isfinite(weight).all():
        fault = "has numbers that are not finite"
    elif kind is not Type.F32 and np.abs(weight).max() > MOST:
        fault = f"has numbers above {MOST:.0f}, the largest in 16 bits"
    elif kind not in {Type.F32, Type.F16} and weight.shape[-1] % 32:
        fault = f"has rows of {weight.shape[-1]} numbers, which make no whole blocks of 32"
    if fault:
        raise ExportError(f"The weight {name} cannot be stored as {kind.name}: it {fault}.", 'Try kind="f16".')
    return quantize(weight, kind)
