"""Fixtures: the real assets for what is about them, and tiny random models for what is about code."""

import gc
import json
import os
from functools import cache

import pytest
import torch
from small_models import causal, encoder, mask, model  # noqa: F401
from tiny import TOKENS, colour_task, tiny_model
from tokenizers import Tokenizer
from transformers import AutoTokenizer, PreTrainedTokenizerFast

import labkit as lk
from labkit.assets.fetch import ensure

os.environ["TOKENIZERS_PARALLELISM"] = "false"
# Several processes that each take all cores wait for each other.
torch.set_num_threads(max(1, torch.get_num_threads() // int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))))


@pytest.fixture(scope="session")
def smollm():
    """The real model, loaded once; tests must not change it."""
    return lk.load_model("smollm2-135m")


@pytest.fixture(scope="session")
def minilm():
    """The real encoder, loaded once; tests must not change it."""
    return lk.load_model("minilm")


@pytest.fixture(scope="session")
def tokenizer():
    """Returns the tokenizer of a real model, for tiny ones: the real one's weights take seconds and 0.5 GB to load."""

    @cache
    def load(name):
        loaded = AutoTokenizer.from_pretrained(ensure(name), local_files_only=True)
        loaded.padding_side = "right"
        return loaded

    return load


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


@pytest.fixture(scope="session")
def triage():
    return lk.load_task("triage", train=400, test=120)


@pytest.fixture
def one_thread():
    """Tiny models gain nothing from several threads, and on a busy computer these wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def llama():
    """Makes Llamas with random weights of the usual size, of two small layers unless other sizes are given."""

    def make(vocab_size, **sizes):
        return tiny_model(
            "llama", vocab_size=vocab_size, **({"tie_word_embeddings": True, "pad_token_id": 2} | sizes)
        ).module

    return make


@pytest.fixture
def tiny(tokenizer, one_thread):
    """A Llama of two small layers with random weights, in float32, and SmolLM2's tokenizer."""
    reader = tokenizer("smollm2-135m")
    sizes = {"vocab_size": len(reader), "tie_word_embeddings": True, "pad_token_id": 2}
    return tiny_model("llama", reader, "tiny", **sizes)


@pytest.fixture
def ids():
    """Tokens for a tiny model: three texts of 13."""
    return torch.arange(1, 40).view(3, 13)


@pytest.fixture
def tiny_encoder(tokenizer, one_thread):
    """A BERT of two small layers with random weights, in float32, and MiniLM's tokenizer."""
    reader = tokenizer("minilm")
    return tiny_model("bert", reader, "tiny-encoder", vocab_size=len(reader))


@pytest.fixture
def colours():
    """A task of one's own that a tiny model can learn."""
    return colour_task()


@pytest.fixture(scope="session", autouse=True)
def quick_collections():
    """Have the garbage collector pass over what was there before: its rounds then take no time."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()
