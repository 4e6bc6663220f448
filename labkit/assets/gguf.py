"""Convert a GGUF file to the safetensors folder that other tools read."""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

from labkit.assets.quiet import quiet_transformers


def gguf_to_safetensors(gguf: Path, folder: Path) -> None:
    """Write config, tokenizer and weights (bfloat16) of ``gguf`` into ``folder``.

    The weights are dequantized from 4-bit blocks: bfloat16 does not bring back their original precision.
    """
    with quiet_transformers():
        _convert(gguf, folder)


def _convert(gguf: Path, folder: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(
        gguf.parent,
        gguf_file=gguf.name,
        dtype=torch.bfloat16,
        quantization_config=GgufConfig(dequantize=True),  # otherwise the weights stay packed and cannot be saved
    )
    model.config._name_or_path = folder.name
    model.save_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    # GGUF does not store SmolLM2's pre-tokenizer: without this, a run of spaces before a digit and
    # characters such as "²" are split differently than in the model's training.
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    tokenizer.model_max_length = model.config.max_position_embeddings
    tokenizer.save_pretrained(folder)
