"""A press of the stop button, wherever a run is at that moment."""

import random
import threading

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from transformers.models.llama.modeling_llama import LlamaAttention

import labkit as lk
from labkit import experiment
from labkit.evaluation import labels
from labkit.memory.hooks import StepHooks
from labkit.memory.recorder import Recorder, can_record
from labkit.methods.lora import LoRALinear
from labkit.models import generation
from labkit.process import alone
from labkit.runs import making
from labkit.training import loop
from labkit.training.callbacks import Progress
from labkit.training.checkpoints import Checkpoints

SETTINGS = {"steps": 4, "batch_size": 4, "checkpoint_every": 1, "gradient_checkpointing": True, "learning_rate": 1e-3}


def stop(number, after=False):
    """A patch: what it replaces is interrupted at its call of that number, before or after it has done its work."""

    def around(original):
        calls = []

        def replaced(*args, **kwargs):
            calls.append(1)
            if len(calls) == number and not after:
                raise KeyboardInterrupt
            result = original(*args, **kwargs)
            if len(calls) == number:
                raise KeyboardInterrupt
            return result

        return replaced

    return around


# What is interrupted, how, and how many steps the run's history then holds; None where no run had begun.
POINTS = {
    "planning": (experiment, "require_fit", stop(1), None),
    "making adapters": (LoRALinear, "__init__", stop(3), None),
    "the first batch": (loop, "collate", stop(1), 0),
    "a forward pass": (LlamaAttention, "forward", stop(5), 1),
    "the loss": (loop, "completion_loss", stop(3), 2),
    "the backward pass": (torch.Tensor, "backward", stop(3), 2),
    "after the backward pass": (torch.Tensor, "backward", stop(3, after=True), 2),
    "the update": (torch.optim.AdamW, "step", stop(3), 2),
    "after the update": (torch.optim.AdamW, "step", stop(3, after=True), 2),
    "hooks for the record of memory": (StepHooks, "register", stop(1), 1),
    "the record of memory": (Recorder, "start", stop(1), 1),
    "after the record has begun": (Recorder, "start", stop(1, after=True), 1),
    "the record's end": (Recorder, "stop", stop(1), 1),
    "after the record's end": (Recorder, "stop", stop(1, after=True), 1),
    "a callback": (lk.Every, "__call__", stop(3), 3),
    "an evaluation": (labels, "_next_logits", stop(3), 3),
    "writing": (generation, "end_ids", stop(3), 3),
    "a checkpoint": (Checkpoints, "save", stop(3), 3),
    "after a checkpoint": (Checkpoints, "save", stop(3, after=True), 3),
    "the bar": (Progress, "__call__", stop(3), 3),
}
AHEAD = {"after the update", "the record's end", "after the record's end"}  # of the history, by one update


def trained(model):
    return {name: p.detach().clone() for name, p in model.trainable().items()}


def equal(one, two):
    return one.keys() == two.keys() and all(torch.equal(tensor, two[name]) for name, tensor in one.items())


def hooks_of(model):
    return sum(len(part._forward_hooks) + len(part._forward_pre_hooks) for part in model.module.modules())


def turn_is_free():
    """Whether another thread could begin a run."""
    got = []

    def take():
        with alone():
            got.append(True)

    thread = threading.Thread(target=take, daemon=True)
    thread.start()
    thread.join(2)
    return got == [True]


def test_after_an_interrupt_anywhere_all_is_as_after_a_run(tiny, colours, tmp_path, monkeypatch):
    bars = []

    class Bar(Progress):
        def __init__(self, total):
            super().__init__(total)
            bars.append(self)

    def look(model):
        return {"accuracy": lk.evaluate(model, colours).accuracy, "text": model.generate("The sky", max_new_tokens=1)}

    def train(*callbacks, **more):
        callbacks = [lk.Every(1, look), *callbacks]
        return lk.finetune(tiny, colours, lk.LoRA(dropout=0.1), callbacks=callbacks, **SETTINGS, **more)

    monkeypatch.setattr(making, "Progress", Bar)
    kept = {}
    whole = train(lambda model, record, last: kept.update({record["step"]: trained(model)}), progress=False)
    accelerate, hooks = dict(AcceleratorState._shared_state), hooks_of(tiny)
    for name, (owner, attribute, patch, steps) in POINTS.items():
        bars.clear()
        torch.manual_seed(1)
        before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
        with monkeypatch.context() as patched:
            patched.setattr(owner, attribute, patch(getattr(owner, attribute)))
            with pytest.raises(KeyboardInterrupt) as stopped:
                train(checkpoints=tmp_path / name)

        assert torch.equal(torch.get_rng_state(), before[0]), name
        assert (random.getstate(), np.random.get_state()[1].tolist()) == before[1:], name
        assert AcceleratorState._shared_state == accelerate, name
        assert can_record(), name
        assert turn_is_free(), name
        assert hooks_of(tiny) == hooks, name
        assert all(bar.bar.disable for bar in bars), name
        assert hasattr(stopped.value, "run") == (steps is not None), name
        if steps is not None:
            assert len(bars) == 1, name
            run = stopped.value.run
            assert [row["step"] for row in run.history] == list(range(1, steps + 1)), name
            module = run.model.module
            assert module.config.use_cache is True, name
            assert not any(getattr(part, "gradient_checkpointing", False) for part in module.modules()), name
            assert not any(part.training for part in module.modules()), name
            assert all(p.grad is None for p in module.parameters()), name
            assert hooks_of(run.model) == hooks_of(whole.model), name
            if steps:
                assert equal(trained(run.model), kept[steps + (name in AHEAD)]), name
        if "checkpoint" in name or "update" in name:
            resumed = train(checkpoints=tmp_path / name, resume=True, progress=False)
            assert equal(trained(resumed.model), kept[4]), name
