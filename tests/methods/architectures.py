"""A small model with random weights of every architecture whose parts the methods know, and of one more."""

from functools import cache

import torch
from torch.nn import functional as F
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

from labkit.assets.models import Model
from labkit.methods.places import BLOCKS

KNOWN = list(BLOCKS)
UNKNOWN = "gpt_bigcode"
ENCODERS = ("bert", "distilbert", "modernbert", "roberta")
NAMED_OTHERWISE = {
    "distilbert": {"hidden_dim": 64},
    "falcon": {"num_kv_heads": 2, "new_decoder_architecture": True, "ffn_hidden_size": 64},
    "gemma2": {"head_dim": 8},
    "gemma3_text": {"head_dim": 8},
    "gpt2": {"n_inner": 64},
    "gpt_bigcode": {"n_inner": 64},
    "modernbert": {"cls_token_id": 1, "sep_token_id": 2},
    "opt": {"ffn_dim": 64, "word_embed_proj_dim": 32, "init_std": 0.2},
    "qwen3": {"head_dim": 8},
}


@cache
def small(name):
    """Two blocks of width 32 whose MLP is 64 wide inside; tests must not change it."""
    sizes = {
        "vocab_size": 64,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 64,
        "initializer_range": 0.2,  # ten times what is usual: a block of so few numbers would hardly change its input
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 2,
    }
    if name in ("gemma2", "gemma3_text", "llama", "mistral", "phi3", "qwen2", "qwen3"):
        sizes["num_key_value_heads"] = 2
    torch.manual_seed(0)
    config = AutoConfig.for_model(name, **sizes, **NAMED_OTHERWISE.get(name, {}))
    kind = "encoder" if name in ENCODERS else "causal"
    auto = AutoModel if kind == "encoder" else AutoModelForCausalLM
    return Model(name, auto.from_config(config).eval(), None, kind, torch.float32)


@torch.no_grad()
def outputs(module, ids, **inputs):
    return module.eval()(input_ids=ids, **inputs)[0]


def backward(module, ids):
    """The gradient of some loss that every position of the output takes part in."""
    output = module.eval()(input_ids=ids)[0]
    F.cross_entropy(output.flatten(0, 1), ids.flatten() % output.shape[-1], reduction="sum").backward()
