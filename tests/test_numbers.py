"""Numbers that are none, everywhere in the public API."""

import inspect
import json
import math
import re
from dataclasses import replace
from operator import attrgetter

import numpy as np
import pytest
import torch
from datasets import Dataset
from torch import nn

import labkit as lk
from labkit import cli
from labkit.comparisons.bench import bench
from labkit.evaluation import label_probabilities
from labkit.quant.absmax import quantize_zero_point
from labkit.training.config import TrainingConfig

NO_NUMBERS = ("3", True, math.nan, math.inf, -1, [3], torch.tensor(3), np.float32("nan"), 3j)
NO_COUNTS = (*NO_NUMBERS, 3.0, np.float64(3), 10**30)
# What labkit makes itself, and learners only read.
RESULTS = {"Model", "Run", "Task"}
# What is public and not in ``lk`` itself.
ELSEWHERE = {f"plots.{name}" for name in lk.plots.__all__} | {"quant.absmax.quantize_zero_point", "methods.LoRALinear"}
ELSEWHERE |= {f"evaluation.{name}" for name in ("bootstrap_interval", "label_probabilities", "latency_ratio")}
ELSEWHERE |= {"evaluation.drift"}
CONVERSATION = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
RATES = {"learning_rate", "warmup", "weight_decay", "max_grad_norm", "alpha", "dropout", "scale", "chance"}
RATES |= {"width", "height", "mark", "temperature", "top_p", "beta", "sft", "gamma", "density"}
RATES |= {"width", "height", "mark", "temperature", "top_p", "clip", "beta"}


@pytest.fixture
def calls(tiny, tiny_encoder, colours):
    """A call for each public name: what it is to do with one of its parameters."""
    weight, runs, layer = torch.randn(64, 64), ["0110"], nn.Linear(4, 4)
    adapted = lk.LoRA().apply(tiny)
    rewarder = replace(tiny_encoder, head=nn.Linear(32, 1), labels=("reward",))
    rows = Dataset.from_list([{"prompt": "a", "chosen": "b", "rejected": "c"}])
    pairs = lk.Task("pairs", rows, rows, (), "made up")
    return {
        "BottleneckAdapters": lk.BottleneckAdapters,
        "Every": lambda steps: lk.Every(steps, dict),
        "ChatWidget": lambda **given: lk.ChatWidget(tiny, **given),
        "FullFineTuning": lk.FullFineTuning,
        "HeadOnly": lk.HeadOnly,
        "IA3": lk.IA3,
        "LoRA": lk.LoRA,
        "methods.LoRALinear": lambda **given: lk.methods.LoRALinear(layer, **{"rank": 2, "scale": 1.0} | given),
        "Preference": lambda **given: lk.Preference("simpo", **given),
        "PrefixTuning": lk.PrefixTuning,
        "PromptTuning": lk.PromptTuning,
        "QLoRA": lk.QLoRA,
        "Quantization": lk.Quantization,
        "RL": lk.RL,
        "Sampling": lk.Sampling,
        "SideBySide": lambda **given: lk.SideBySide(lk.Specialists(tiny, {"a": adapted}), **given),
        "TrainingConfig": lk.TrainingConfig,
        "evaluation.bootstrap_interval": lambda **given: lk.evaluation.bootstrap_interval(runs, **given),
        "chat": lambda **given: lk.chat(tiny, CONVERSATION[:1], **given),
        "combine": lambda **given: lk.combine({"a": adapted}, [1], **{"how": "ties"} | given),
        "compare": lambda **given: lk.compare(runs, runs, **given),
        "describe": lambda **given: lk.describe(colours, tiny, **given),
        "evaluate": lambda **given: lk.evaluate(tiny, colours, **given),
        "export": lambda **given: lk.export(adapted, "nowhere", **given),
        "generate": lambda **given: lk.generate(tiny, ["a"], **{"max_new_tokens": 2} | given),
        "general_english": lk.general_english,
        "evaluation.label_probabilities": lambda **given: label_probabilities(tiny, ["a"], [" b", " c"], **given),
        "evaluation.latency_ratio": lambda **given: lk.evaluation.latency_ratio(tiny, tiny, "text", **given),
        "load_task": lambda **given: lk.load_task("triage", **given),
        "perplexity": lambda **given: lk.perplexity(tiny, ["some text"], **given),
        "plan": lambda **given: lk.plan("llama-7b", **given),
        "plots.Cells": lambda **given: lk.plots.Cells("a", [1], **given),
        "plots.Matrix": lambda **given: lk.plots.Matrix("a", **{"rows": 2, "columns": 2} | given),
        "plots.accuracy": lambda **given: lk.plots.accuracy({}, **given),
        "plots.bars": lambda **given: lk.plots.bars({"a": 1}, "x", **given),
        "plots.columns": lambda **given: lk.plots.columns([1], "x", "y", **given),
        "plots.figure": lk.plots.figure,
        "plots.look_of": lambda **given: lk.plots.look_of("a", **given),
        "plots.merging": lambda **given: lk.plots.merging({"a": [1.0]}, **given),
        "plots.mixed_batch": lambda **given: lk.plots.mixed_batch((4, 4), **given),
        "plots.worth": lambda **given: lk.plots.worth({}, **{"at": 1000} | given),
        "plots.grids": lambda **given: lk.plots.grids(weight, {}, **given),
        "quantize": lambda **given: lk.quantize(weight, **given),
        "quantize_absmax": lambda **given: lk.quantize_absmax(weight, **given),
        "quant.absmax.quantize_zero_point": lambda **given: quantize_zero_point(weight, **given),
        "sample_episodes": lambda **given: lk.sample_episodes(tiny, ["a"], lambda rows, replies: [0], **given),
        "sample_pairs": lambda **given: lk.sample_pairs(tiny, [], len, **given),
        "score_pairs": lambda **given: lk.score_pairs(rewarder, pairs, **given),
        "show_masks": lambda **given: lk.show_masks(tiny, CONVERSATION, **given),
        "text_loss": lambda **given: lk.text_loss(tiny, ["some text"], **given),
    }


def numeric(function):
    """The parameters of a function that are numbers, and whether they may be None."""
    for name, parameter in inspect.signature(function).parameters.items():
        if found := re.fullmatch(r"(?:str \| )?(?:int|float)( \| None)?", str(parameter.annotation)):
            yield name, bool(found[1])


def test_what_is_no_number_is_refused_everywhere(calls):
    tried = 0
    for public in sorted({*lk.__all__, *ELSEWHERE} - RESULTS):
        if not callable(thing := attrgetter(public)(lk)) or (isinstance(thing, type) and issubclass(thing, Exception)):
            continue
        for name, optional in numeric(thing):
            assert public in calls, f"{public} takes a number, {name}, that no test tries"
            for value in (*(NO_NUMBERS if name in RATES else NO_COUNTS), *([] if optional else [None])):
                try:
                    calls[public](**{name: value})
                except lk.LabkitError:
                    tried += 1
                else:
                    pytest.fail(f"{public}({name}={value!r}) raises nothing")
    assert tried > 500


def test_settings_of_a_run_are_checked_wherever_they_are_given(tiny, colours):
    for name, value in (("steps", "3"), ("batch_size", 2.0), ("seed", -1), ("learning_rate", None), ("warmup", True)):
        with pytest.raises(lk.LabkitError, match=f"{name} must be "):
            lk.finetune(tiny, colours, progress=False, **{name: value})
        with pytest.raises(lk.LabkitError, match=f"{name} must be "):
            lk.predict_memory(tiny, colours, **{name: value})
        with pytest.raises(lk.LabkitError, match=f"{name} must be "):
            lk.plan("llama-7b", **{name: value})
    specialists = lk.Specialists(tiny, {"a": lk.LoRA().apply(tiny)})
    for value in NO_COUNTS:
        with pytest.raises(lk.LabkitError, match="max_new_tokens must be"):
            tiny.generate("text", max_new_tokens=value)
        with pytest.raises(lk.LabkitError, match="max_new_tokens must be"):
            specialists.generate(["text"], "a", value)
        with pytest.raises(lk.LabkitError, match="batch_size must be"):
            specialists.generate(["text"], "a", 2, batch_size=value)
        with pytest.raises(lk.LabkitError, match="seed must be"):
            specialists.start(["text"], "a", 2, seed=value)
        with pytest.raises(lk.LabkitError, match="depth must be"):
            lk.memory.MemoryReport().by_module(value)
        with pytest.raises(lk.LabkitError, match="is not a share of the work"):
            bench("lora-rate", part=(1, value))
    for part in ("1/2", 1, None, (0, 2), (3, 2), (1, 2, 3), ("1", "2")):
        with pytest.raises(lk.LabkitError, match="is not a share of the work"):
            bench("lora-rate", part=part)
    assert cli.main(["bench", "lora-rate", "--part", "3/2"]) == 1


def test_numpys_numbers_are_numbers_and_become_pythons():
    config = TrainingConfig(steps=np.int64(3), learning_rate=np.float32(0.5), warmup=np.float64(0.25), seed=np.uint8(7))
    assert config == TrainingConfig(steps=3, learning_rate=0.5, warmup=0.25, seed=7)
    methods = (
        (lk.LoRA(rank=np.int32(4), alpha=np.int64(8), dropout=np.float64(0.5)), lk.LoRA(rank=4, alpha=8, dropout=0.5)),
        (lk.QLoRA(block_size=np.int64(32)), lk.QLoRA(block_size=32)),
        (lk.BottleneckAdapters(size=np.int64(2), scale=np.float32(2)), lk.BottleneckAdapters(size=2, scale=2.0)),
        (lk.PrefixTuning(virtual_tokens=np.int64(3)), lk.PrefixTuning(virtual_tokens=3)),
    )
    for made, plain in methods:
        assert json.dumps(made.to_dict()) == json.dumps(plain.to_dict())
    assert (
        lk.load_task("triage", train=np.int64(9), test=np.int64(6), seed=np.int64(1)).train["prompt"][:]
        == (lk.load_task("triage", train=9, test=6, seed=1).train["prompt"][:])
    )
    assert lk.evaluation.bootstrap_interval(
        ["01"], draws=np.int64(50), seed=np.int64(1)
    ) == lk.evaluation.bootstrap_interval(["01"], draws=50, seed=1)
