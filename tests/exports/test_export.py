"""Exports: what plain transformers and PEFT read from them, which faults are named, and what a failure leaves."""

import copy
import json
import re
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

import labkit as lk
from labkit.exports import FORMATS, PROOFS, ExportError
from labkit.exports.child import ask
from labkit.exports.formats import job, lossless
from labkit.exports.subject import Subject
from labkit.models.precision import store_linear_weights


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_what_is_read_without_labkit_is_the_model_to_the_last_bit(run, made):
    exported, answers, _ = made
    for name in ("safetensors", "peft"):
        proof = exported.proofs[name]
        assert proof.difference == proof.bound == 0
        assert proof.positions == sum(map(len, Subject.of(run).prompts)) > 50
        assert (proof.texts > 500, proof.conversations, proof.agreement) == (True, 10, 1)
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
    assert (
        json.loads((made[0].folder / "peft" / "adapter_config.json").read_text())["base_model_name_or_path"] == "tiny"
    )


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


def untied(folder):
    change_json("config.json", tie_word_embeddings=False)(folder)
    return folder


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
        "head": ("safetensors", untied),
        "own head": ("safetensors", lambda f: change_tensors(weights, own_head)(untied(f))),
        "scale": ("safetensors", change_tensors(weights, lambda tensors: tensors.update(plain))),
        "scale of the adapter": ("peft", change_json("adapter_config.json", lora_alpha=4)),
        "no weights": ("safetensors", lambda f: (f / weights).unlink()),
    }
    for name, (format, change) in faults.items():
        monkeypatch.setitem(FORMATS, name, tampered(format, change))
        monkeypatch.setitem(PROOFS, name, PROOFS[format])
    before = contents(old)
    with pytest.raises(ExportError) as caught:
        lk.export(run, old, [*faults], overwrite=True)
    faulty = dict(caught.value.faults)
    assert re.match("it cannot be loaded .*model.safetensors", *faulty.pop("no weights"))
    named = {name: {fault.split(":")[0] for fault in several} for name, several in faulty.items()}
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
    }
    assert "0.25 times" in str(caught.value)  # the scale is 4
    assert contents(old) == before
    assert [*old.parent.iterdir()] == [old]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_weights_are_stored_in_16_bits_where_that_loses_nothing(tiny, dtype):
    assert lossless(copy.deepcopy(tiny.module).to(dtype).float()) == dtype


def rounded(lm):
    store_linear_weights(lm.module, torch.bfloat16)
    return replace(lm, precision=torch.bfloat16)


def test_adapters_of_every_kind_that_peft_knows(finetune, run, tmp_path, one_thread):
    methods = {
        "odd scale": lk.LoRA(rank=3, alpha=16, target_modules=["q_proj", "down_proj"]),
        "rslora": lk.LoRA(rank=16, alpha=16, rslora=True),  # a scale of 4
        "pissa": lk.LoRA(rank=2, alpha=2, variant="pissa"),
        "dora": lk.LoRA(rank=4, variant="dora"),
        "ia3": lk.IA3(),
        "qlora": lk.QLoRA(block_size=32, backend="labkit"),
    }
    subjects = {name: Subject.of(finetune(method)) for name, method in methods.items()}
    subjects["bfloat16"] = Subject.of(finetune("lora", rounded))
    subjects["a model alone"] = Subject(run.model)
    written = [(name, "peft") for name in subjects] + [(name, "safetensors") for name in ("qlora", "bfloat16")]
    jobs = {}
    for name, format in written:
        folder = tmp_path / name / format
        (folder / "scratch").mkdir(parents=True)
        FORMATS[format](subjects[name], folder)
        jobs[f"{name} {format}"] = job(subjects[name], folder, folder / "scratch")
    answers = ask(jobs, subjects["dora"].prompts, tmp_path)
    for name, format in written:
        proof = PROOFS[format](subjects[name], tmp_path / name / format, answers[f"{name} {format}"])
        same = format == "safetensors" or name not in {"odd scale", "dora", "ia3"}  # PEFT computes these otherwise
        assert same == (proof.bound == 0), name
        assert proof.difference <= proof.bound, name
        print(name, proof)
