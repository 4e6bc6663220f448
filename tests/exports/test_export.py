"""Exports: what plain transformers and PEFT read from them, which faults are named, and what a failure leaves."""

import errno
import json
import shutil
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import colour_task, tiny_model
from transformers import AutoModelForCausalLM, AutoTokenizer

import labkit as lk
from labkit.evaluation.results import Forgetting, score
from labkit.exports import FORMATS, PROOFS, ExportError, child
from labkit.exports.card import card
from labkit.exports.child import ask
from labkit.exports.formats import job
from labkit.exports.subject import Subject
from labkit.quant.layers import Quantization

SETTINGS = {"steps": 3, "batch_size": 4, "learning_rate": 1e-2, "progress": False}
TUNED = score([True, True, False], ["a", "a", "b"], ["a", "b"], ["a", "a", "a"])


def small(tokenizer):
    sizes = {"vocab_size": len(tokenizer), "tie_word_embeddings": True, "pad_token_id": 2}
    return tiny_model("llama", tokenizer, "tiny", **sizes)


@pytest.fixture(scope="module")
def run(tokenizer):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield lk.finetune(small(tokenizer("smollm2-135m")), colour_task(), lk.LoRA(rank=4, alpha=16), **SETTINGS)
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def made(run, tmp_path_factory):
    """An export, and what the process without labkit answered."""
    answers = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(child, "ask", lambda *given: answers.update(ask(*given)) or answers)
        folder = tmp_path_factory.mktemp("made") / "colours"
        return lk.export(run, folder, evaluations={"colours": TUNED}, forgetting=Forgetting(3.0, 3.25)), answers


@pytest.fixture
def old(made, tmp_path):
    """A folder with an earlier export, and its files."""
    folder = shutil.copytree(made[0].folder, tmp_path / "old")
    return folder, contents(folder)


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_what_is_read_without_labkit_is_the_model_to_the_last_bit(run, made):
    exported, answers = made
    for name in ("safetensors", "peft"):
        proof = exported.proofs[name]
        assert proof.difference == proof.bound == 0
        assert proof.positions == sum(map(len, Subject.of(run).prompts)) > 50
        assert (proof.texts > 500, proof.conversations, proof.agreement) == (True, 8, 1)
    assert exported.proofs["peft"].from_live == 0
    assert 0 < exported.proofs["safetensors"].from_live < 1e-4
    # And not by a comparison of the export with itself: these are the model's own.
    merged = lk.merge(run.model).module
    ids = torch.tensor(Subject.of(run).prompts[:1])
    torch.testing.assert_close(answers["safetensors"].logits[0], merged(input_ids=ids).logits[0], atol=1e-5, rtol=0)
    torch.testing.assert_close(answers["peft"].logits[0], run.model.module(input_ids=ids).logits[0], atol=1e-5, rtol=0)
    assert str(exported).count("the same bits") == 2


def test_the_folder_is_one_that_transformers_loads(run, made):
    folder = made[0].folder / "safetensors"
    loaded = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    assert loaded.get_output_embeddings().weight is loaded.get_input_embeddings().weight
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ends = {tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids("<|im_end|>")}
    assert ends <= {*[loaded.generation_config.eos_token_id]} or ends <= {*loaded.generation_config.eos_token_id}
    assert json.loads((made[0].folder / "peft" / "adapter_config.json").read_text())["base_model_name_or_path"] == "tiny"


def tampered(name, change):
    """A format that is written right and then changed."""

    def write(subject, folder):
        FORMATS[name](subject, folder)
        change(folder)

    return write


def change_json(file, **values):
    def change(folder):
        content = json.loads((folder / file).read_text()) | values
        (folder / file).write_text(json.dumps({key: value for key, value in content.items() if value is not None}))

    return change


def change_tensors(file, function):
    def change(folder):
        tensors = load_file(folder / file)
        function(tensors)
        save_file(tensors, folder / file, metadata={"format": "pt"})

    return change


def permute(tensors):
    for name in tensors:
        if name.endswith(("q_proj.weight", "k_proj.weight", "q_proj.lora_B.weight", "k_proj.lora_B.weight")):
            rows = tensors[name]
            half = rows.view(-1, 2, 4, rows.shape[-1])  # of each head of 8 rows, as llama.cpp orders them
            tensors[name] = half.transpose(1, 2).reshape(rows.shape).contiguous()


def own_head(tensors):
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].flip(0).contiguous()


def test_each_planted_fault_is_named_and_nothing_is_left(run, old, monkeypatch):
    weights, factors = "model.safetensors", "adapter_model.safetensors"
    bare = {path: layer.frozen + layer.delta() / layer.scale for path, layer in Subject.of(run).adapters.items()}
    plain = {f"{path}.weight": weight.detach() for path, weight in bare.items()}
    rope = run.model.module.config.rope_parameters
    faults = {
        "template": ("safetensors", lambda f: (f / "chat_template.jinja").write_text("{{ messages[0]['content'] }}")),
        "no template": ("peft", lambda f: (f / "chat_template.jinja").unlink()),
        "end": ("safetensors", change_json("generation_config.json", eos_token_id=None)),
        "end of the adapter": ("peft", change_json("generation_config.json", eos_token_id=0)),
        "end of texts": ("safetensors", change_json("tokenizer_config.json", eos_token="<|endoftext|>")),
        "tokens": ("safetensors", change_json("tokenizer.json", pre_tokenizer=None)),
        "rope": ("safetensors", change_json("config.json", rope_parameters=rope | {"rope_theta": 500.0})),
        "rows": ("safetensors", change_tensors(weights, permute)),
        "rows of the adapter": ("peft", change_tensors(factors, permute)),
        "head": ("safetensors", change_json("config.json", tie_word_embeddings=False)),
        "own head": ("safetensors", lambda f: (change_json("config.json", tie_word_embeddings=False)(f), change_tensors(weights, own_head)(f))),
        "scale": ("safetensors", change_tensors(weights, lambda tensors: tensors.update(plain))),
        "scale of the adapter": ("peft", change_json("adapter_config.json", lora_alpha=4)),
        "no weights": ("safetensors", lambda f: (f / weights).unlink()),
    }
    for name, (format, change) in faults.items():
        monkeypatch.setitem(FORMATS, name, tampered(format, change))
        monkeypatch.setitem(PROOFS, name, PROOFS[format])
    folder, before = old
    with pytest.raises(ExportError) as caught:
        lk.export(run, folder, [*faults], overwrite=True)
    named = {name: {fault.split(":")[0] for fault in several} for name, several in caught.value.faults.items()}
    assert named == {
        "template": {"chat template"},
        "no template": {"chat template"},
        "end": {"end tokens"},
        "end of the adapter": {"end tokens"},
        "end of texts": {"end tokens"},
        "tokens": {"tokenizer"},
        "rope": {"rope base", "logits"},
        "rows": {"permuted rows", "logits"},
        "rows of the adapter": {"permuted rows", "logits"},
        "head": {"tied head", "logits"},
        "own head": {"tied head", "logits"},
        "scale": {"adapter scale", "logits"},
        "scale of the adapter": {"adapter scale", "logits"},
        "no weights": {next(iter(named["no weights"]))},
    }
    assert "cannot be loaded" in caught.value.faults["no weights"][0]
    assert "0.25 times" in str(caught.value)  # the scale is 4
    assert contents(folder) == before
    assert [*folder.parent.iterdir()] == [folder]
