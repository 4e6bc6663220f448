"""Tiny models that read letters as tokens, for methods that put virtual tokens before a text."""

import torch
from tiny import STRONG, Letters, tiny_model

TEXT = "words"  # of five letters, which are five tokens
TASKS = {"causal": "CAUSAL_LM", "encoder": "FEATURE_EXTRACTION"}
CAUSAL = ["gpt_neox", "llama", "mistral", "opt", "phi3", "qwen2", "qwen3"]
ENCODERS = ["bert", "distilbert", "roberta"]


def make(kind, **sizes):
    """A model that reads 64 tokens; a Mistral sees but the last 6 of them."""
    window = {"sliding_window": 6} if kind == "mistral" else {}
    return tiny_model(kind, Letters(), **({"max_position_embeddings": 64} | window | STRONG | sizes))


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
