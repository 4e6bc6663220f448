"""Saved runs: what is refused, what is replaced, what is found again. ``test_experiment`` has what comes back."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import labkit as lk
from labkit.methods import METHODS
from labkit.runs import Run, describe

CAUSAL = [
    lk.FullFineTuning(),
    lk.LoRA(rank=2),
    lk.QLoRA(rank=2, block_size=32),
    lk.IA3(),
    lk.BottleneckAdapters(size=2),
]
CAUSAL += [lk.PrefixTuning(virtual_tokens=2), lk.PromptTuning(virtual_tokens=2)]
ADAPTERS = CAUSAL[1:]


@pytest.fixture(autouse=True)
def home(monkeypatch, tmp_path):
    monkeypatch.setenv("LABKIT_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def run_of(model, method, classes=0):
    """Return a run of a method as it is before its first step."""
    tuned = method.apply(model)
    if classes:
        tuned.head = nn.Linear(32, classes)
    labels = tuple("abcdefgh"[:classes])
    return Run(tuned, method, lk.TrainingConfig(), describe(model), "colours", labels, [{"step": 1, "loss": 1.0}])


def tree(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_name_that_is_none_touches_no_run(tiny, home, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = run_of(tiny, lk.LoRA(rank=2))
    run.save("monday")
    run.save("tuesday")
    before = tree(tmp_path)
    for name in (
        "",
        " ",
        ".",
        "..",
        "/",
        "~",
        "a/../..",
        "../home",
        Path(),
        Path(tmp_path / "home" / ".."),
        "con",
        "a:b",
    ):
        for overwrite in (True, False):
            with pytest.raises(lk.LabkitError):
                run.save(name, overwrite=overwrite)
    assert tree(tmp_path) == before


def test_only_a_saved_run_is_replaced(tiny, home, tmp_path, monkeypatch):
    run = run_of(tiny, lk.LoRA(rank=2))
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "thesis.txt").write_text("mine")
    (tmp_path / "sport").mkdir()
    (tmp_path / "sport" / "run.json").write_text('{"distance": "5 km"}')
    (tmp_path / "file").write_text("mine")
    (tmp_path / "points").mkdir()
    shutil.copytree(run.save(tmp_path / "notes"), tmp_path / "outer")
    (tmp_path / "notes" / "notes.md").write_text("mine")
    run.save(tmp_path / "outer" / "inner")
    (run.save(tmp_path / "cut") / "run.json").write_text('{"format": "labkit r')
    (tmp_path / "link").symlink_to(run.save(tmp_path / "led-to"))
    (tmp_path / "points" / "run.json").write_text('{"format": "labkit checkpoint", "version": 1}')
    monkeypatch.chdir(tmp_path / "data")
    monkeypatch.setenv("HOME", str(tmp_path / "data"))
    before = tree(tmp_path)
    for name in ("data", "sport", "file", "points", "notes", "outer", "cut", "link", "home", "."):
        with pytest.raises(lk.LabkitError) as caught:
            run.save(tmp_path / name, overwrite=True)
        assert caught.value.remedy
    with pytest.raises(lk.LabkitError, match=r"notes holds notes\.md, which labkit did not write"):
        run.save(tmp_path / "notes", overwrite=True)
    after = tree(tmp_path)
    assert {name: after[name] for name in before} == before


def test_runs_of_every_version_are_replaced_with_what_file_managers_leave(tiny, tmp_path):
    first, second = run_of(tiny, lk.LoRA(rank=2)), run_of(tiny, lk.IA3())
    folder = first.save(tmp_path / "Läufe von heute" / "größer 2")
    for version in (0, 1, 2):
        record = json.loads((folder / "run.json").read_text(encoding="utf-8")) | {"version": version}
        if version == 0:
            del record["format"], record["version"], record["files"]
        (folder / "run.json").write_text(json.dumps(record), encoding="utf-8")
        (folder / ".ipynb_checkpoints").mkdir()
        (folder / ".ipynb_checkpoints" / "run-checkpoint.json").write_text("{}")
        (folder / ".DS_Store").write_text("")
        second.save(folder, overwrite=True)
        assert lk.load_run(folder, tiny).method == second.method
        first.save(folder, overwrite=True)
    assert sorted(os.listdir(folder)) == ["adapter_config.json", "adapter_model.safetensors", "run.json"]
    assert os.listdir(folder.parent) == [folder.name]


def refused(run, model, message, tmp_path):
    run.model = model
    with pytest.raises(lk.LabkitError, match=message) as caught:
        run.save("mine")
    assert "save_pretrained" in caught.value.remedy
    assert not (tmp_path / "home" / "runs").exists()


def test_a_model_without_what_was_trained_is_not_saved_as_a_run(tiny, tmp_path):
    assert {method.name for method in CAUSAL} | {"head"} == set(METHODS)
    for method in CAUSAL:
        for other in CAUSAL:
            if other != method:
                message = "trained|adapters are others|other values"
                refused(run_of(tiny, method), other.apply(tiny), message, tmp_path)
        if method in ADAPTERS:
            refused(run_of(tiny, method), tiny, f"no longer holds what {method.name} trained: .* is gone", tmp_path)
            with pytest.raises(lk.LabkitError, match="no adapter to save"):
                method.save(tiny, tmp_path)
    for method in (lk.LoRA(rank=2), lk.IA3()):
        run = run_of(tiny, method)
        refused(run, lk.merge(run.model), r"(lora_A|ia3_l) is gone.*merged", tmp_path)
    run = run_of(tiny, lk.QLoRA(rank=2, block_size=32))
    refused(run, lk.merge(run.model, dequantize=True), "lora_A is gone", tmp_path)
    refused(run_of(tiny, lk.LoRA(rank=2)), lk.LoRA(rank=3).apply(tiny), r"lora_A has the shape \(3, 32\)", tmp_path)


def test_what_was_trained_on_other_weights_is_not_saved_as_this_run(tiny, tmp_path):
    run = run_of(tiny, lk.LoRA(rank=2))
    with torch.no_grad():
        for parameter in run.model.trainable().values():
            parameter.normal_()
    again = lk.LoRA(rank=2).apply(lk.merge(run.model))
    refused(run, again, r"weight, which lora left as it was, has different values now", tmp_path)


def test_an_encoder_without_its_head_is_not_saved_as_a_run(tiny_encoder, tmp_path):
    for method in (lk.HeadOnly(), lk.FullFineTuning(), lk.LoRA(rank=2)):
        run = run_of(tiny_encoder, method, classes=4)
        refused(run, replace(run.model, head=None), "head.weight is gone", tmp_path)
        refused(run, replace(run.model, head=nn.Linear(32, 3)), r"head.weight has the shape \(3, 32\)", tmp_path)


def test_a_model_that_was_only_moved_or_frozen_is_saved(tiny, tiny_encoder):
    for run in (run_of(tiny, lk.FullFineTuning()), run_of(tiny_encoder, lk.LoRA(rank=2), classes=4)):
        run.model.module.requires_grad_(False)
        run.model.module.to(torch.bfloat16)
        run.save("mine", overwrite=True)


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
