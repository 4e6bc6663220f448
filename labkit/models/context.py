"""How many tokens a model can read at once."""

from __future__ import annotations

from transformers import PretrainedConfig

from labkit.models.architectures import ARCHITECTURES

MAX_LENGTH = 512  # tokens of an example that are read at once, unless another number is asked for
UNLIMITED = 1 << 20  # for models without a limit of their own


def longest_of(config: PretrainedConfig) -> int:
    """Return how many tokens a model can read at once."""
    names = ("max_position_embeddings", "n_positions", "max_seq_len")
    positions = next((value for name in names if (value := getattr(config, name, None))), UNLIMITED)
    known = ARCHITECTURES.get(config.model_type)
    return positions - config.pad_token_id - 1 if known and known.padding_first else positions
