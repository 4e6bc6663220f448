"""Tiny models with random weights of every architecture, and tiny data: the one place where tests make them."""

import torch
from datasets import Dataset
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

import labkit as lk
from labkit.models.model import Model
from labkit.training.batching import Example

SIZES = {
    "vocab_size": 128,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "tie_word_embeddings": False,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
TOKENS = 1024  # of the small vocabulary of ``few_tokens``
ALL_HEADS = {"num_key_value_heads": 4}  # of architectures that have as many heads for keys as for queries
# What the architectures call their sizes, where it is not the name above or one that stands for it.
CAUSAL = {
    "falcon": {"num_kv_heads": 2, "new_decoder_architecture": True, "ffn_hidden_size": 64},
    "gemma2": {"head_dim": 8},
    "gemma3_text": {"head_dim": 8},
    "gpt2": {"n_inner": 64} | ALL_HEADS,
    "gpt_neox": ALL_HEADS,
    "llama": {},
    "mistral": {},
    "opt": {"ffn_dim": 64, "word_embed_proj_dim": 32} | ALL_HEADS,
    "phi3": {},
    "qwen2": {},
    "qwen3": {"head_dim": 8},
}
ENCODERS = {
    "bert": ALL_HEADS,
    "distilbert": {"hidden_dim": 64} | ALL_HEADS,
    "modernbert": {"cls_token_id": 1, "sep_token_id": 2} | ALL_HEADS,
    "roberta": ALL_HEADS,
}
# Ten times what is usual, so that every token and every block matters in so small a model.
STRONG = {"initializer_range": 0.2, "init_std": 0.2}


def tiny_config(kind="llama", **sizes):
    """The configuration of a model of a few thousand numbers; sizes have the names of SIZES in every architecture."""
    return AutoConfig.for_model(kind, **(SIZES | (CAUSAL | ENCODERS).get(kind, {}) | sizes))


def tiny_model(kind="llama", tokenizer=None, name=None, **sizes):
    """A model in float32, called as its architecture is, with random weights that are the same each time."""
    return model_of(tiny_config(kind, **sizes), tokenizer, name)


def model_of(config, tokenizer=None, name=None):
    """The same of a configuration."""
    causal = config.model_type not in ENCODERS
    torch.manual_seed(0)
    module = (AutoModelForCausalLM if causal else AutoModel).from_config(config).eval()
    return Model(name or config.model_type, module, tokenizer, "causal" if causal else "encoder", torch.float32)


class Letters:
    """A tokenizer with a token for each letter, and one that begins a text."""

    pad_token_id = 0

    def __call__(self, text, add_special_tokens=True):
        return {"input_ids": [1] * add_special_tokens + [ord(letter) for letter in text]}


def alike(batch, length, learned):
    """A batch of examples of one length."""
    return [Example([3] * length, learned, 0)] * batch


def colour_task(train=24, test=12):
    """A task of one's own that a tiny model can learn."""
    pairs = {"sky": "blue", "grass": "green", "snow": "white", "coal": "black"}
    places = ["north", "south", "east", "west", "high", "low", "old", "new", "far", "near"]
    rows = [
        {"prompt": f"The {thing} in the {place} is", "completion": f" {colour}"}
        for place in places
        for thing, colour in pairs.items()
    ]
    return lk.load_task(Dataset.from_list(rows), train=train, test=test)


def disturb(model, seed=1, size=0.3):
    """Give trained parameters values that matter."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.trainable().values():
        parameter.data.add_(torch.randn(parameter.shape, generator=generator) * size)
