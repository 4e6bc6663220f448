"""Small models that read letters as tokens, for methods that put virtual tokens before a text."""

import torch
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

from labkit.assets.models import Model

TEXT = "words"  # of five letters, which are five tokens
TASKS = {"causal": "CAUSAL_LM", "encoder": "FEATURE_EXTRACTION"}
FOUR = {"num_key_value_heads": 4}  # of architectures that have as many heads for keys as for queries
CAUSAL = {
    "gpt_neox": FOUR,
    "llama": {},
    "mistral": {"sliding_window": 6},
    "opt": {"ffn_dim": 64, "word_embed_proj_dim": 32} | FOUR,
    "phi3": {},
    "qwen2": {},
    "qwen3": {"head_dim": 16},
}
ENCODERS = {
    "bert": FOUR,
    "distilbert": {"dim": 32, "hidden_dim": 64, "n_layers": 2, "n_heads": 4},
    "roberta": FOUR,
}


class Letters:
    """A tokenizer with a token for each letter, and one that begins a text."""

    pad_token_id = 0

    def __call__(self, text, add_special_tokens=True):
        return {"input_ids": [1] * add_special_tokens + [ord(letter) for letter in text]}


def make(kind, **sizes):
    """A model of two blocks with weights so large that every token matters, in 32 numbers and 4 heads."""
    small = {
        "vocab_size": 128,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 64,
        "tie_word_embeddings": False,
        "pad_token_id": 0,
        "initializer_range": 0.2,
        "init_std": 0.2,
    }
    causal = kind in CAUSAL
    config = AutoConfig.for_model(kind, **(small | (CAUSAL | ENCODERS)[kind] | sizes))
    torch.manual_seed(0)
    module = (AutoModelForCausalLM if causal else AutoModel).from_config(config).eval()
    return Model(kind, module, Letters(), "causal" if causal else "encoder", torch.float32)


@torch.no_grad()
def outputs(module, ids, mask=None):
    """The output for each token; that of padding is set to zero."""
    output = module.eval()(input_ids=ids, attention_mask=None if mask is None else mask.long())[0]
    return output if mask is None else output * mask[..., None]


def after_words(ids, mask):
    """The texts and their mask behind the words."""
    words = torch.tensor([[ord(letter) for letter in TEXT]]).expand(len(ids), -1)
    return torch.cat([words, ids], dim=1), torch.cat([torch.ones_like(words).bool(), mask], dim=1)


def table_of(tuned):
    """What is trained, a row for each virtual token."""
    (numbers,) = tuned.trainable().values()
    return numbers.flatten(1)
