"""Rewrite a GGUF file as the plain safetensors folder that every other tool reads."""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig


def gguf_to_safetensors(gguf: Path, folder: Path) -> None:
    """Write config, tokenizer and weights (bfloat16) of ``gguf`` into ``folder``, then delete ``gguf``.

    The weights come out of 4-bit blocks: bfloat16 here means dequantized, not the original precision.
    """
    model = AutoModelForCausalLM.from_pretrained(
        gguf.parent,
        gguf_file=gguf.name,
        dtype=torch.bfloat16,
        quantization_config=GgufConfig(dequantize=True),  # else the weights stay packed and cannot be saved
    )
    model.config._name_or_path = folder.name
    model.save_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    # GGUF does not carry SmolLM2's pre-tokenizer: without this, a run of spaces before a digit and
    # characters such as "²" are split otherwise than the model saw them in its training.
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    tokenizer.model_max_length = model.config.max_position_embeddings
    tokenizer.save_pretrained(folder)
    gguf.unlink()
