"""Saved runs that are old, interrupted or damaged. ``test_round_trip`` has what comes back."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from untrained import run_of

import labkit as lk


def test_a_run_without_a_version_is_read_and_a_newer_one_refused(tiny):
    run = run_of(tiny, lk.LoRA(rank=2))
    path = run.save("mine") / "run.json"
    record = json.loads(path.read_text(encoding="utf-8"))
    assert (record["format"], record["version"]) == ("labkit run", 1)
    old = {key: value for key, value in record.items() if key not in ("format", "version", "files")}
    for text in (json.dumps(old), "\ufeff" + json.dumps(record)):  # some editors add a mark in front
        path.write_text(text, encoding="utf-8")
        assert lk.load_run("mine", tiny).history == run.history
    path.write_text(json.dumps(record | {"version": 2, "method": "unheard of"}), encoding="utf-8")
    with pytest.raises(lk.LabkitError, match=r"newer labkit: its format has version 2.*\n.*Update labkit"):
        lk.load_run("mine", tiny)


def test_a_run_that_a_killed_process_put_aside_is_found_again(tiny, home):
    run = run_of(tiny, lk.LoRA(rank=2))
    folder = run.save("mine")
    folder.rename(folder.with_name(".mine.labkit-old"))
    shutil.copytree(folder.with_name(".mine.labkit-old"), folder.with_name(".mine.abcdefgh.labkit-new"))
    with pytest.raises(lk.LabkitError, match="no saved run called 'other'") as caught:
        lk.load_run("other", tiny)
    assert caught.value.remedy.endswith("Valid names: mine.")
    assert lk.load_run("mine", tiny).history == run.history
    folder.rename(folder.with_name(".mine.labkit-old"))
    with pytest.raises(lk.LabkitError, match="exists already"):
        run.save("mine")
    assert lk.load_run("mine", tiny).history == run.history


def change(**values):
    def edit(folder):
        record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        (folder / "run.json").write_text(json.dumps(record | values), encoding="utf-8")

    return edit


def without(key):
    def edit(folder):
        record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        (folder / "run.json").write_text(json.dumps({k: v for k, v in record.items() if k != key}), encoding="utf-8")

    return edit


def cut(name):
    def edit(folder):
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[: len(data) // 2])

    return edit


def remove(name):
    return lambda folder: (folder / name).unlink()


def reshape(name, tensor):
    def edit(folder):
        tensors = load_file(folder / name)
        tensors[tensor] = torch.zeros(3, 5)
        save_file(tensors, folder / name)

    return edit


RECORD = {
    "damaged": [
        *(cut("run.json"), change(history=3), change(labels=None), change(memory={"sizes": 1})),
        *(change(config={"steps": 0}), change(config={"stepz": 1}), change(base={"name": "tiny"}), change(base=None)),
        *(change(method={"name": "lora", "rank": "two"}), change(method={"name": "lorra"}), change(method={})),
    ],
    "is missing": [remove("run.json")],
    "is not the record of": [change(format="labkit checkpoint"), lambda f: (f / "run.json").write_text("[1]")],
    "version": [change(version="one"), change(version=-1), change(version=True)],
    "not a text in UTF-8": [lambda f: (f / "run.json").write_bytes(b"\xff\xfe{}")],
    "lacks": [without(key) for key in ("method", "config", "base", "task", "labels", "history", "memory")],
}


def test_a_damaged_record_is_named(tiny):
    run = run_of(tiny, lk.LoRA(rank=2))
    for reason, edits in RECORD.items():
        for edit in edits:
            folder = run.save("mine")
            edit(folder)
            for base in (tiny, None):
                with pytest.raises(lk.LabkitError, match=rf"mine.run\.json cannot be used: .*{reason}"):
                    lk.load_run("mine", base)
            shutil.rmtree(folder)


def test_damaged_weights_are_named(tiny, tiny_encoder):
    for model, method, name, tensor in [
        (tiny, lk.LoRA(rank=2), "adapter_model", "base_model.model.model.layers.0.mlp.up_proj.lora_A.weight"),
        (tiny, lk.PromptTuning(virtual_tokens=2), "adapter_model", "prompt_embeddings"),
        (tiny, lk.FullFineTuning(), "model", "model.norm.weight"),
        (tiny_encoder, lk.HeadOnly(), "head", "weight"),
        (tiny_encoder, lk.HeadOnly(), "head", "bias"),
    ]:
        run = run_of(model, method, classes=4 * (model.kind == "encoder"))
        file = f"{name}.safetensors"
        for edit in (cut(file), remove(file), reshape(file, tensor), reshape(file, "unheard.of")):
            folder = run.save("mine", overwrite=True)
            edit(folder)
            with pytest.raises(lk.LabkitError, match=r"mine.*(cannot be used|does not fit)") as caught:
                lk.load_run("mine", model)
            assert caught.value.remedy
            shutil.rmtree(folder)


def test_a_base_model_that_is_gone_is_named_with_the_run(tiny, tmp_path):
    run = run_of(tiny, lk.LoRA(rank=2))
    run.save("mine")
    with pytest.raises(lk.LabkitError, match=r"mine was trained on tiny, which could not be loaded.*\n.*base="):
        lk.load_run("mine")
