import os

import pytest
import torch
from accelerate import Accelerator

import labkit as lk
from labkit.training.accelerator import UNSUPPORTED, own_accelerate

SETTINGS = {"steps": 3, "batch_size": 4, "accumulation": 2, "progress": False}
# What `accelerate launch` and `accelerate config` set, and a launcher of one process.
ENVIRONMENT = {
    "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "4",
    "ACCELERATE_MIXED_PRECISION": "bf16",
    "ACCELERATE_DYNAMO_BACKEND": "INDUCTOR",
    "ACCELERATE_DYNAMO_MODE": "nonsense",
    "ACCELERATE_FP8_BACKEND": "nonsense",
    "ACCELERATE_TORCH_DEVICE": "meta",
    "ACCELERATE_CPU_AFFINITY": "1",
    "ACCELERATE_DEBUG_MODE": "1",
    "ACCELERATE_USE_CPU": "true",
    "ACCELERATE_USE_FSDP": "false",
    "ACCELERATE_SPLIT_BATCHES": "true",
    "WORLD_SIZE": "1",
    "RANK": "0",
    "LOCAL_RANK": "0",
}


def rows(model, task):
    return [{k: v for k, v in row.items() if k != "seconds"} for row in lk.finetune(model, task, **SETTINGS).history]


def test_no_setting_of_the_environment_changes_a_run(tiny, colours, monkeypatch):
    expected = rows(tiny, colours)
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    before = dict(os.environ)
    assert rows(tiny, colours) == expected
    assert dict(os.environ) == before


def test_what_is_not_supported_is_refused_by_name(tiny, colours, monkeypatch):
    for name, what in UNSUPPORTED.items():
        with monkeypatch.context() as patch:
            patch.setenv(name, "True")
            with pytest.raises(lk.LabkitError, match=rf"{name} asks for {what}.*\n.*Unset {name}\."):
                lk.finetune(tiny, colours, **SETTINGS)


def test_an_accelerator_of_the_callers_own_is_left_as_it_is(tiny, colours):
    expected = rows(tiny, colours)
    with own_accelerate():
        theirs = Accelerator(mixed_precision="bf16", cpu=True, gradient_accumulation_steps=4)
        layer = torch.nn.Linear(2, 2)
        with theirs.accumulate(layer):  # whose gradients are not to be used yet
            assert rows(tiny, colours) == expected
            assert not theirs.sync_gradients
        assert theirs.mixed_precision == theirs.state.mixed_precision == "bf16"
        assert theirs.gradient_accumulation_steps == 4
