import os
import socket
import time

import pytest
import torch
import torch.multiprocessing as mp
from datasets import Dataset
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig, BertModel, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

import labkit as lk
from labkit.conversations.templates import CHATML
from labkit.training import processes
from labkit.training.batching import Example
from labkit.training.pair_objective import COLUMNS
from labkit.training.processes import LAUNCHER, Processes, count_processes

MARKS = ["<|im_start|>", "<|im_end|>"]
WORDS = ["[PAD]", "[UNK]", "[EOS]", "sky", "grass", "snow", "coal", "is", "the", "blue", "green", "white", "black"]
TALK = ["user", "assistant", *MARKS]
SIZES = {
    "vocab_size": len(WORDS),
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
}


def make(kind):
    """A tiny model with a tokenizer of a few words, the same in every process."""
    known = WORDS + (TALK if kind == "chat" else [])
    words = Tokenizer(models.WordLevel({word: i for i, word in enumerate(known)}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    reader = PreTrainedTokenizerFast(tokenizer_object=words, pad_token="[PAD]", unk_token="[UNK]", eos_token="[EOS]")
    if kind == "chat":
        reader.add_special_tokens({"additional_special_tokens": MARKS})
        reader.chat_template = CHATML
    torch.manual_seed(0)
    if kind == "encoder":
        quiet = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}  # each process draws for its share
        module = BertModel(BertConfig(**SIZES | quiet))
    else:
        module = LlamaForCausalLM(LlamaConfig(**SIZES | {"vocab_size": len(known)}, bos_token_id=2, eos_token_id=2))
    return lk.Model(f"tiny {kind}", module.eval(), reader, "causal" if kind == "chat" else kind, torch.float32)


def make_task():
    pairs = {"sky": "blue", "grass": "green", "snow": "white", "coal": "black"}
    rows = [
        {"prompt": " ".join([*["the"] * (i % 5), thing, *["is"] * (i // 5)]), "completion": colour}
        for i in range(10)
        for thing, colour in pairs.items()
    ]
    return lk.load_task(Dataset.from_list(rows), train=20, test=8)


def make_pairs():
    """Pairs of which the chosen completion is the longer one for every second prompt."""
    said = {"sky": "blue", "grass": "green is green", "snow": "white", "coal": "black the black"}
    rows = [
        {
            "prompt": [{"role": "user", "content": " ".join([*["the"] * i, thing])}],
            "chosen": [{"role": "assistant", "content": colour}],
            "rejected": [{"role": "assistant", "content": f"{'white black'[: 5 + 6 * (i % 2)]} is"}],
        }
        for i in range(3)
        for thing, colour in said.items()
    ]
    data = Dataset.from_list(rows)
    return lk.Task("pairs", data, data, (), "made here")


RUNS = {
    "all weights": ("causal", "full", {"batch_size": 4, "accumulation": 2, "weight_decay": 0.1}),
    "adapters": ("causal", "lora", {"batch_size": 3, "gradient_checkpointing": True}),
    "packed rows": ("causal", "lora", {"batch_size": 3, "packing": True, "max_length": 24}),
    "one packed row": ("causal", "lora", {"batch_size": 1, "packing": True, "max_length": 24}),
    "a batch smaller than the world": ("causal", "full", {"batch_size": 1}),
    "an encoder, its head and its pooler": ("encoder", "full", {"batch_size": 5, "weight_decay": 0.1}),
    "an encoder and one example": ("encoder", "lora", {"batch_size": 1}),
    "pairs": ("chat", "full", {"batch_size": 3, "accumulation": 2, "preference": lk.Preference("dpo", sft=0.5)}),
    "pairs and their mismatches": ("chat", "lora", {"batch_size": 3, "preference": "kto"}),
    "one pair": ("chat", "lora", {"batch_size": 1, "preference": "orpo"}),
}


def train(folder, who, stops):
    """Make each run, with a look at the model while it is trained, and write down what came out of it."""
    task, pairs = make_task(), make_pairs()

    def look(model, record, last):
        record["accuracy"] = lk.evaluate(model, task).accuracy
        return stops and record["step"] == 3

    for number, (kind, method, settings) in enumerate(RUNS.values()):
        run = lk.finetune(
            make(kind),
            pairs if "preference" in settings else task,
            method,
            steps=4,
            learning_rate=1e-2,
            callbacks=[look],
            progress=False,
            **settings,
        )
        tensors = {name: p.detach().clone() for name, p in run.model.module.named_parameters()}
        if run.model.head:
            tensors |= {f"head.{name}": p.detach().clone() for name, p in run.model.head.named_parameters()}
        paired = COLUMNS if "preference" in settings else ()
        for column in ("step", "loss", "grad_norm", "tokens", "accuracy", *paired):
            tensors[f"history.{column}"] = torch.tensor([float(row[column]) for row in run.history])
        save_file(tensors, folder / f"{number} {who}.safetensors")


def work(rank, folder, port):
    torch.set_num_threads(1)
    os.environ |= {"WORLD_SIZE": "2", "RANK": str(rank), "LOCAL_RANK": str(rank)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    train(folder, rank, stops=rank == 1)  # one process alone wants to stop: all do


def free_port():
    with socket.socket() as each:
        each.bind(("127.0.0.1", 0))
        return each.getsockname()[1]


def test_two_processes_make_the_steps_of_one(tmp_path, one_thread):
    start = "fork" if "fork" in mp.get_all_start_methods() and not torch.cuda.is_available() else "spawn"
    mp.start_processes(work, args=(tmp_path, free_port()), nprocs=2, start_method=start)
    train(tmp_path, "alone", stops=True)
    for number, name in enumerate(RUNS):
        alone, *both = (load_file(tmp_path / f"{number} {who}.safetensors") for who in ("alone", 0, 1))
        assert alone["history.step"].tolist() == [1, 2, 3]
        assert alone["history.grad_norm"].min() > 1e-3
        for each in both:
            assert each.keys() == alone.keys()
            for key, tensor in each.items():
                assert torch.equal(tensor, both[0][key]), (name, key)
                # Softmax cancels the bias of a key: its gradient is rounding alone, which AdamW makes a step of.
                if not key.endswith("key.bias"):
                    assert torch.allclose(tensor, alone[key], rtol=1e-5, atol=1e-6), (name, key)


def test_shares_are_the_whole_batch_and_none_is_empty():
    batch = [Example([1, 2, token], 1, 3) for token in range(5)]
    for count in (1, 2, 4, 5, 7):
        shares = [Processes(count, rank).share_of(batch) for rank in range(count)]
        learned = [example for share in shares for example in share if example.learned]
        assert sorted(learned, key=lambda example: example.tokens) == batch
        assert all(shares)
        assert sum(len(share) for share in shares) == max(count, len(batch))


def test_a_world_without_processes_is_told_and_not_waited_for(tiny, colours, monkeypatch):
    for name in (*LAUNCHER, "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    assert count_processes() == 1
    begun = time.monotonic()
    for name in ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE"):
        with monkeypatch.context() as patch:
            patch.setenv(name, "4")
            for call in (lk.finetune, lk.predict_memory):
                with pytest.raises(lk.LabkitError, match=rf"one of 4 processes, as {name}=4 says.*RANK, .*MASTER_PORT"):
                    call(tiny, colours)
    monkeypatch.setenv("WORLD_SIZE", "two")
    with pytest.raises(lk.LabkitError, match="WORLD_SIZE must be a whole number, not 'two'"):
        lk.finetune(tiny, colours, steps=1)
    assert time.monotonic() - begun < 5

    monkeypatch.setattr(processes, "WAIT", 1)
    everything = {"WORLD_SIZE": "2", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    for name, value in everything.items():
        monkeypatch.setenv(name, value)
    for rank in ("0", "1"):  # the one that the others come to, and one that comes to nobody
        monkeypatch.setenv("RANK", rank)
        with pytest.raises(
            lk.LabkitError, match=r"WORLD_SIZE=2, RANK=., LOCAL_RANK=0 says.*didn't meet within 1 seconds\.\n.*torchrun"
        ):
            lk.finetune(tiny, colours, steps=1, progress=False)
    for name in everything:
        monkeypatch.delenv(name)
    monkeypatch.delenv("RANK")
    assert len(lk.finetune(tiny, colours, steps=1, batch_size=2, progress=False).history) == 1
