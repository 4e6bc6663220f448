from transformers import AutoConfig

from labkit.training.batching import Example

SIZES = {
    "vocab_size": 100,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "tie_word_embeddings": False,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
# What these call their sizes, where it is not the name above or one that stands for it.
OWN = {
    "opt": {"ffn_dim": 64, "word_embed_proj_dim": 32},
    "distilbert": {"hidden_dim": 64},
}


def small(kind="llama", **sizes):
    """The configuration of a model of a few thousand numbers."""
    return AutoConfig.for_model(kind, **(SIZES | OWN.get(kind, {}) | sizes))


def alike(batch, length, learned):
    """A batch of examples of one length."""
    return [Example([3] * length, learned, 0)] * batch
