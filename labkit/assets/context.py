"""How long a text a model can read."""

from __future__ import annotations

from transformers import PretrainedConfig

UNLIMITED = 1 << 20  # for models without a limit of their own


def longest_of(config: PretrainedConfig) -> int:
    """Return how many tokens a model can read at once."""
    positions = getattr(config, "max_position_embeddings", None) or UNLIMITED
    # RoBERTa counts its positions from behind the number of the padding token.
    return positions - config.pad_token_id - 1 if config.model_type == "roberta" else positions
