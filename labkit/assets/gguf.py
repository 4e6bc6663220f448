"""Rewrite a GGUF file as the plain safetensors folder that every other tool reads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from tokenizers import pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig
from transformers.utils import logging

from labkit.process import alone


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Silence the bars and remarks of transformers inside the block; one thread at a time, for they are everybody's."""
    with alone():
        verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
        logging.set_verbosity_error()
        logging.disable_progress_bar()
        try:
            yield
        finally:
            logging.set_verbosity(verbosity)
            if bars:
                logging.enable_progress_bar()


def gguf_to_safetensors(gguf: Path, folder: Path) -> None:
    """Write config, tokenizer and weights (bfloat16) of ``gguf`` into ``folder``.

    The weights come out of 4-bit blocks: bfloat16 here means dequantized, not the original precision.
    """
    with quiet_transformers():
        _convert(gguf, folder)


def _convert(gguf: Path, folder: Path) -> None:
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
