"""Small models and runs, and an export that was proved in a process of its own."""

import shutil
from contextlib import contextmanager

import pytest
import torch
from tiny import STRONG, TOKENS, colour_task, tiny_model

import labkit as lk
from labkit.evaluation.results import Forgetting, score
from labkit.exports import child

SETTINGS = {"steps": 3, "batch_size": 4, "learning_rate": 1e-2, "progress": False}
TUNED = score([True, True, False], ["a", "a", "b"], ["a", "b"], ["a", "a", "a"])


@contextmanager
def single_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def finetune(tokenizer):
    """Trains a tiny model with a tied head by a method, for three steps; ``change`` may change the model before."""
    reader = tokenizer("smollm2-135m")
    sizes = {"vocab_size": len(reader), "tie_word_embeddings": True, "pad_token_id": 2}

    def train(method, change=lambda lm: lm):
        with single_thread():
            return lk.finetune(change(tiny_model("llama", reader, "tiny", **sizes)), colour_task(), method, **SETTINGS)

    return train


@pytest.fixture(scope="session")
def run(finetune):
    """Its scale is 4, so that PEFT computes the same bits."""
    return finetune(lk.LoRA(rank=4, alpha=16))


@pytest.fixture(scope="session")
def made(run, tmp_path_factory):
    """An export, what the process without labkit answered, and the evaluation in its card."""
    answers, ask = {}, child.ask
    folder = tmp_path_factory.mktemp("made") / "colours"
    with pytest.MonkeyPatch.context() as patch, single_thread():
        patch.setattr(child, "ask", lambda *given: answers.update(ask(*given)) or answers)
        given = {"evaluations": {"colours": TUNED}, "forgetting": Forgetting(3.0, 3.25)}
        return lk.export(run, folder, **given), answers, TUNED


@pytest.fixture
def old(made, tmp_path):
    """A folder with an earlier export."""
    return shutil.copytree(made[0].folder, tmp_path / "old")


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
