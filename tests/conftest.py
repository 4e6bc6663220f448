"""Fixtures: the real assets for what is about them, and tiny random models for what is about code."""

import gc
import os

import pytest
import torch
from datasets import Dataset
from transformers import BertConfig, BertModel, LlamaConfig, LlamaForCausalLM

import labkit as lk
from labkit.assets.models import Model

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
    """Makes Llamas with random weights, of two small layers unless other sizes are given."""

    def make(vocab_size, **sizes):
        torch.manual_seed(0)
        small = {
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 512,
            "tie_word_embeddings": True,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "pad_token_id": 2,
        }
        return LlamaForCausalLM(LlamaConfig(vocab_size=vocab_size, **(small | sizes))).eval()

    return make


@pytest.fixture
def tiny(llama, smollm, one_thread):
    """A Llama of two small layers with random weights, in float32, and SmolLM2's tokenizer."""
    return Model("tiny", llama(len(smollm.tokenizer)), smollm.tokenizer, "causal", torch.float32)


@pytest.fixture
def ids():
    """Tokens for a tiny model: three texts of 13."""
    return torch.arange(1, 40).view(3, 13)


@pytest.fixture
def tiny_encoder(minilm, one_thread):
    """A BERT of two small layers with random weights, in float32, and MiniLM's tokenizer."""
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(minilm.tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
    )
    return Model("tiny-encoder", BertModel(config).eval(), minilm.tokenizer, "encoder", torch.float32)


@pytest.fixture
def colours():
    """A task of one's own that a tiny model can learn."""
    pairs = {"sky": "blue", "grass": "green", "snow": "white", "coal": "black"}
    places = ["north", "south", "east", "west", "high", "low", "old", "new", "far", "near"]
    rows = [
        {"prompt": f"The {thing} in the {place} is", "completion": f" {colour}"}
        for place in places
        for thing, colour in pairs.items()
    ]
    return lk.load_task(Dataset.from_list(rows), train=24, test=12)


@pytest.fixture(scope="session", autouse=True)
def quick_collections():
    """Have the garbage collector pass over what was there before: its rounds then take no time."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()
