"""A Llama so small that its files are written and read in no time, with SmolLM2's rules for tokens."""

import json

import pytest
from tiny import STRONG, tiny_model
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

import labkit as lk
from labkit.assets.fetch import ensure

TOKENS = 1024


@pytest.fixture(scope="session")
def few_tokens():
    """SmolLM2's tokenizer with its first tokens alone; texts end with one that llama.cpp does not know by itself."""
    folder = ensure("smollm2-135m")
    made = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    rules = made["model"]
    rules["vocab"] = {text: token for text, token in rules["vocab"].items() if token < TOKENS}
    rules["merges"] = [pair for pair in rules["merges"] if "".join(pair) in rules["vocab"]]
    special = {"bos_token": "<|im_start|>", "eos_token": "<jupyter_output>", "pad_token": "<|im_end|>"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(made)), **special)
    tokenizer.chat_template = (folder / "chat_template.jinja").read_text(encoding="utf-8")
    tokenizer.padding_side = "right"
    return tokenizer


@pytest.fixture
def small(few_tokens, one_thread):
    """Makes such models; the table of word vectors has more rows than there are tokens."""

    def make(**sizes):
        end = few_tokens.eos_token_id
        settings = {"vocab_size": TOKENS + 8, "tie_word_embeddings": True, "eos_token_id": end, "hidden_size": 64}
        settings |= {"rope_parameters": {"rope_type": "default", "rope_theta": 50_000.0}, **STRONG}
        return tiny_model("llama", few_tokens, "small", **(settings | sizes))

    return make


@pytest.fixture
def tuned(small):
    """Such a model with an adapter that changes much."""
    model = lk.LoRA(rank=4, alpha=8, rslora=True).apply(small())
    for name, weight in model.module.named_parameters():
        if "lora_B" in name:
            weight.data.normal_(std=0.1)
    return model
