"""Saved runs: what is refused and what is replaced. ``test_round_trip`` has what comes back."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from untrained import run_of

import labkit as lk
from labkit.methods import METHODS

CAUSAL = [
    lk.FullFineTuning(),
    lk.LoRA(rank=2),
    lk.QLoRA(rank=2, block_size=32),
    lk.IA3(),
    lk.BottleneckAdapters(size=2),
]
CAUSAL += [lk.PrefixTuning(virtual_tokens=2), lk.PromptTuning(virtual_tokens=2)]
ADAPTERS = CAUSAL[1:]


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
