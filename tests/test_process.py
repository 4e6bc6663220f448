import os
import random
import threading
import warnings

import numpy as np
import pytest
import torch
import transformers
from accelerate.state import AcceleratorState, GradientState, PartialState

import labkit as lk
from labkit import process
from labkit.process import alone, own_random_numbers, seed_all

CPU = torch.device("cpu")
QUICK = {"steps": 3, "batch_size": 4, "progress": False}


def numbers():
    """The state of every random generator, as bytes."""
    key, *rest = np.random.get_state()[1:3]
    return repr(random.getstate()), key.tobytes(), rest, torch.get_rng_state().numpy().tobytes()


def state(model):
    """What a call might leave changed in the process and in the caller's model."""
    module = model.module
    return {
        "numbers": numbers(),
        "threads": (torch.get_num_threads(), torch.get_num_interop_threads()),
        "defaults": (torch.get_default_dtype(), torch.get_default_device(), torch.get_float32_matmul_precision()),
        "modes": (torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.is_autocast_enabled("cpu")),
        "deterministic": (torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark),
        "profiler": (torch.autograd._profiler_enabled(), torch.autograd.profiler._is_profiler_enabled),
        "warnings": list(warnings.filters),
        "transformers": transformers.utils.logging.get_verbosity(),
        "environment": dict(os.environ),
        "accelerate": [dict(each._shared_state) for each in (AcceleratorState, PartialState, GradientState)],
        "training": [part.training for part in module.modules()],
        "trained": [(p.requires_grad, p.grad is None) for p in module.parameters()],
        "hooks": [(len(part._forward_hooks), len(part._forward_pre_hooks)) for part in module.modules()],
        "cache": module.config.use_cache,
    }


def disturb(model):
    """Put all that a call might overwrite into a state that no program starts with."""
    random.seed(5)
    np.random.seed(6)
    torch.manual_seed(7)
    model.module.train()
    model.module.model.layers[0].eval()
    next(iter(model.module.parameters())).requires_grad_(False)


def test_every_call_leaves_the_process_and_the_callers_model_as_they_were(tiny, tiny_encoder, colours, tmp_path):
    run = lk.finetune(tiny, colours, **QUICK)
    run.save(tmp_path / "run")
    disturb(tiny)
    tiny_encoder.module.train()
    calls = {
        "full": lambda: lk.finetune(tiny, colours, "full", **QUICK),
        "lora": lambda: lk.finetune(tiny, colours, lk.LoRA(dropout=0.1), gradient_checkpointing=True, **QUICK),
        "an encoder": lambda: lk.finetune(tiny_encoder, colours, "lora", **QUICK),
        "predict_memory": lambda: lk.predict_memory(tiny, colours),
        "plan": lambda: str(lk.plan(tiny, length=32)),
        "evaluate": lambda: lk.evaluate(tiny, colours),
        "evaluate without a head": lambda: lk.evaluate(tiny_encoder, colours),
        "perplexity": lambda: lk.perplexity(tiny, colours),
        "drift": lambda: lk.evaluation.drift(tiny_encoder, tiny_encoder, ["The sky", "Grass is green", "Coal"]),
        "forgetting": lambda: lk.forgetting(tiny, run.model, ["Cats sleep for most of the day."]),
        "latency": lambda: lk.evaluation.latency_ratio(tiny, run.model, "The sky", repeats=1),
        "generate": lambda: tiny.generate("The sky", max_new_tokens=2),
        "load_run": lambda: lk.load_run(tmp_path / "run", tiny),
        "merge": lambda: lk.merge(run.model),
    }
    for name, call in calls.items():
        before = state(tiny), state(tiny_encoder)
        call()
        for one, two in zip(before, (state(tiny), state(tiny_encoder)), strict=True):
            assert [key for key in one if one[key] != two[key]] == [], name


def test_what_the_caller_has_switched_changes_no_run(tiny, colours):
    def losses():
        return [row["loss"] for row in lk.finetune(tiny, colours, lk.LoRA(dropout=0.2), **QUICK).history]

    expected = losses()
    with torch.no_grad():
        assert losses() == expected
    with torch.inference_mode():
        assert losses() == expected
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert losses() == expected
    torch.set_default_dtype(torch.float64)
    try:
        assert losses() == expected
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)


def test_gradients_that_the_caller_left_are_not_counted(tiny, colours):
    clean = lk.finetune(tiny.copy(share_weights=False), colours, "full", inplace=True, **QUICK)
    for parameter in tiny.module.parameters():
        parameter.grad = torch.ones_like(parameter)
    run = lk.finetune(tiny, colours, "full", inplace=True, **QUICK)
    assert [row["loss"] for row in run.history] == [row["loss"] for row in clean.history]


def test_threads_take_turns_and_get_what_they_would_get_alone(tiny, colours):
    jobs = {
        "one": lambda: [row["loss"] for row in lk.finetune(tiny, colours, lk.LoRA(dropout=0.2), **QUICK).history],
        "two": lambda: [row["loss"] for row in lk.finetune(tiny, colours, "full", seed=1, **QUICK).history],
        "evaluate": lambda: lk.evaluate(tiny, colours).predictions,
        "perplexity": lambda: lk.perplexity(tiny, colours),
        "predict": lambda: lk.predict_memory(tiny, colours).peak,
        "generate": lambda: tiny.generate("The sky", max_new_tokens=3),
    }
    expected = {name: job() for name, job in jobs.items()}
    found = {}
    threads = [threading.Thread(target=lambda n=name, j=job: found.update({n: j()})) for name, job in jobs.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == expected


def test_a_callback_may_train_and_evaluate(tiny, colours):
    inner = []

    def look(model, record, last):
        other = tiny.copy(share_weights=True)
        other.precision = torch.bfloat16
        inner.append(lk.finetune(other, colours, **QUICK).history[0]["loss"])
        record["accuracy"] = lk.evaluate(model, colours).accuracy

    run = lk.finetune(tiny, colours, lk.LoRA(dropout=0.2), callbacks=[look], **QUICK)
    plain = lk.finetune(tiny, colours, lk.LoRA(dropout=0.2), **QUICK)
    assert len(set(inner)) == 1
    assert [row["loss"] for row in run.history] == [row["loss"] for row in plain.history]
    assert inner[0] != plain.history[0]["loss"]  # of another precision


def test_a_thread_that_waits_long_says_so(monkeypatch):
    monkeypatch.setattr(process, "PATIENCE", 0.01)
    said = []

    def wait():
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            with alone():
                said.extend(str(each.message) for each in caught)

    with alone(), alone():
        thread = threading.Thread(target=wait)
        thread.start()
        thread.join(0.2)
        assert thread.is_alive()
    thread.join()
    assert said == ["Another thread is using labkit; this one waits until it is done."]


def test_random_numbers_go_on_as_if_nobody_had_drawn():
    before = numbers()
    drawn = []

    def draw_and_stop():
        with own_random_numbers(CPU):
            seed_all(3, CPU)
            drawn.extend((torch.rand(2), random.random(), np.random.rand()))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        draw_and_stop()
    assert numbers() == before
    torch.manual_seed(3)
    assert torch.equal(drawn[0], torch.rand(2))


def test_a_seed_has_the_numbers_that_torch_gives_it(tiny, colours):
    for seed in (0, 1, 2**31 - 1, (2**31 - 1) * 1_000_003):  # what torch takes has the numbers that torch gives it
        with own_random_numbers(CPU):
            seed_all(seed, CPU)
            found = torch.rand(2)
            torch.manual_seed(seed)
            assert torch.equal(found, torch.rand(2))
    for seed in (0, 2**31 - 1):
        one, two = (lk.finetune(tiny, colours, lk.LoRA(dropout=0.2), seed=seed, **QUICK) for _ in range(2))
        assert one.history[-1]["loss"] == two.history[-1]["loss"]
