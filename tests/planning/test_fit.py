import itertools
import re

import psutil
import pytest
import torch
from tiny import tiny_model

import labkit as lk
from labkit.planning import Step, fit
from labkit.planning.sizes import parse_size
from labkit.training.batching import Example, encode
from labkit.training.config import TrainingConfig
from labkit.training.schedule import Schedule

SMALL = {"steps": 2, "batch_size": 4}
QUICK = SMALL | {"progress": False}


@pytest.fixture
def free(monkeypatch):
    """Return a function that sets how many bytes are free."""

    def say(size):
        monkeypatch.setattr(fit, "free_memory", lambda device: int(size))

    return say


@pytest.fixture
def no_ways(monkeypatch):
    """Make errors name no alternatives: looking for them takes time."""
    monkeypatch.setattr(fit, "_smaller", lambda step: iter(()))


@pytest.fixture
def unasked(monkeypatch):
    """Fail if a step is simulated."""

    def refuse(*arguments):
        raise AssertionError("simulated")

    monkeypatch.setattr(fit, "predict_step", refuse)


def refusal(model, task, method="lora", **settings):
    with pytest.raises(lk.LabkitError, match="more memory") as caught:
        lk.finetune(model, task, method, **(QUICK | settings))
    return caught.value


def named(error):
    """Return the bytes that an error says are needed and free, and the alternatives that it names."""
    needed, free = re.fullmatch(r"A step of this run needs (.+) more memory, and (.+) is free\.", error.cause).groups()
    ways = re.findall(r"(?:: |; )([^;:]+?) \((\d[^)]*)\)", error.remedy)
    return parse_size(needed), parse_size(free), {text: parse_size(size) for text, size in ways}


def test_a_run_that_does_not_fit_is_refused_with_what_it_needs(tiny, colours, free, no_ways):
    free(5_000_000)
    error = refusal(tiny, colours, "full", batch_size=8)
    needed, given, _ = named(error)
    assert given == 5_000_000
    # Another copy of the weights, their gradients and two numbers each for the optimizer; then the batch.
    fixed = 16 * sum(p.numel() for p in tiny.parameters())
    assert fixed < needed < 2 * fixed
    assert "Or pass force=True to try it all the same." in error.remedy


def test_the_number_is_what_the_run_takes_beside_the_model(tiny, colours, free, no_ways):
    for method, inplace in (("full", False), ("full", True), ("lora", False)):
        report = lk.predict_memory(tiny, colours, method, **SMALL)
        there = tiny.nbytes if method == "lora" or inplace else 0
        buffers = sum(b.nbytes for b in tiny.module.buffers()) if method == "full" and not inplace else 0
        needed = report.peak - there - buffers
        free(needed - 1)
        assert named(refusal(tiny, colours, method, inplace=inplace))[0] == pytest.approx(needed, abs=500_000)
        free(needed)
        assert lk.finetune(tiny.copy(share_weights=False), colours, method, inplace=inplace, **QUICK).history


def test_the_ways_to_go_on_that_are_named_do_fit(tiny, colours, free, monkeypatch):
    monkeypatch.setattr(fit, "WAYS", 2)
    free(15_000_000)
    _, given, ways = named(refusal(tiny, colours, batch_size=16))
    assert list(ways) == ["batch_size=8, accumulation=2", "batch_size=4, accumulation=4"]
    for text, size in ways.items():
        assert size <= given
        changes = {key: int(value) for key, value in (part.split("=") for part in text.split(", "))}
        run = lk.finetune(tiny, colours, **(QUICK | changes))
        assert run.memory.peak - tiny.nbytes == pytest.approx(size, rel=0.01, abs=500_000)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_what_is_named_is_a_smaller_method_or_a_saving(tiny, checkpointing):
    training = TrainingConfig(batch_size=5, accumulation=3, gradient_checkpointing=checkpointing)
    step = Step(tiny.module.config, lk.LoRA(rank=3), training, [Example([1], 1)] * 5)
    tried = {text: (smaller.method, smaller.training) for text, smaller in fit._smaller(step)}
    saving = [] if checkpointing else ["gradient_checkpointing=True"]
    halves = ["batch_size=2, accumulation=6", "batch_size=1, accumulation=12"]
    assert list(tried) == [*saving, *halves, 'method="qlora"', 'method="qlora", gradient_checkpointing=True']
    for text, (method, changed) in tried.items():
        assert method == (lk.QLoRA() if "qlora" in text else lk.LoRA(rank=3))
        assert changed.gradient_checkpointing == (checkpointing or "gradient" in text)
        assert (changed.batch_size, changed.accumulation) == {halves[0]: (2, 6), halves[1]: (1, 12)}.get(text, (5, 3))


def test_where_nothing_would_fit_that_is_said(tiny, colours, free):
    free(1000)
    error = refusal(tiny, colours, batch_size=1)
    assert error.cause.endswith("and 0 MB is free.")
    assert error.remedy.startswith("Nothing that labkit tried would fit: use shorter texts (max_length).")


def test_the_model_is_as_it_was_after_a_refusal(tiny, colours, free, no_ways):
    before = {name: tensor.clone() for name, tensor in tiny.module.state_dict().items()}
    free(1000)
    refusal(tiny, colours, "full", inplace=True, batch_size=1)
    after = tiny.module.state_dict()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    assert all(p.requires_grad and p.grad is None for p in tiny.module.parameters())
    assert lk.finetune(tiny, colours, force=True, **QUICK).history


def test_force_runs_all_the_same(tiny, colours, free):
    free(1000)
    assert len(lk.finetune(tiny, colours, force=True, **QUICK).history) == 2


@pytest.mark.parametrize("method", ["full", lk.LoRA(dropout=0.2), lk.LoRA(variant="pissa")])
def test_looking_ahead_changes_no_bit_of_a_run(tiny, colours, monkeypatch, method):
    monkeypatch.setattr(fit, "SURE", 10**9)  # so that a step is simulated
    looked, forced = (lk.finetune(tiny, colours, method, force=force, **QUICK) for force in (False, True))
    for name, tensor in looked.model.trainable().items():
        assert torch.equal(tensor, forced.model.module.get_parameter(name))
    assert [row["loss"] for row in looked.history] == [row["loss"] for row in forced.history]


def test_looking_ahead_changes_no_bit_of_an_encoders_run(tiny_encoder, colours, monkeypatch):
    monkeypatch.setattr(fit, "SURE", 10**9)
    looked, forced = (lk.finetune(tiny_encoder, colours, force=force, **QUICK).model for force in (False, True))
    assert all(torch.equal(tensor, forced.trainable()[name]) for name, tensor in looked.trainable().items())


def test_where_there_is_plenty_no_step_is_simulated(tiny, tiny_encoder, colours, free, unasked):
    free(10**12)
    for model in (tiny, tiny_encoder):
        for method in ("full", "lora", lk.QLoRA(block_size=32)):
            assert lk.finetune(model, colours, method, **(QUICK | {"steps": 1})).history


def test_where_it_is_less_sure_a_step_is_simulated(tiny, colours, free, unasked):
    free(30_000_000)
    with pytest.raises(AssertionError, match="simulated"):
        lk.finetune(tiny, colours, "full", **QUICK)


def test_other_architectures_are_let_through(tiny, colours, free, unasked):
    tiny.module.config.model_type = "mamba"
    free(1000)
    assert lk.finetune(tiny, colours, **QUICK).history


def test_a_model_in_4_bits_needs_no_second_copy_of_its_weights(tiny, colours, free, no_ways):
    sizes = {"hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": 4, "tie_word_embeddings": True}
    big = tiny_model("llama", tiny.tokenizer, "big", vocab_size=len(tiny.tokenizer), **sizes)
    coded = lk.quantize_model(big)
    report = lk.predict_memory(coded, colours, **SMALL)
    assert report.quantized > 0
    run = lk.finetune(coded, colours, force=True, **QUICK)
    assert report.peak == pytest.approx(run.memory.peak, rel=5e-3)
    free(run.memory.peak - run.memory.frozen + 100_000)
    assert lk.finetune(coded, colours, **QUICK).history


def test_an_encoder_is_measured_with_its_classes(tiny_encoder, colours, free, no_ways, monkeypatch):
    asked = []
    real = fit.predict_step
    monkeypatch.setattr(fit, "predict_step", lambda step: asked.append(step.classes) or real(step))
    free(1000)
    refusal(tiny_encoder, colours, batch_size=1)
    assert set(asked) == {4}


def test_the_largest_step_is_what_counts(tiny, colours, free, monkeypatch):
    asked = []
    real, smaller = fit.predict_step, fit._smaller

    def note(step):
        asked.append((step.training, step.examples))
        return real(step)

    monkeypatch.setattr(fit, "predict_step", note)
    monkeypatch.setattr(fit, "_smaller", lambda step: itertools.islice(smaller(step), 2))
    free(1000)
    config = TrainingConfig(steps=4, batch_size=4, accumulation=2, gradient_checkpointing=True)
    examples = encode(tiny, colours.train["prompt"], colours.train["completion"], 512)
    schedule = Schedule(examples, (), config)
    with pytest.raises(lk.LabkitError):
        lk.finetune(tiny, colours, **vars(config), progress=False)
    training, batch = asked[0]
    assert training == config
    assert batch == schedule.largest_batches(-1)[0]  # the first step counts as well
    # Smaller batches are the longest part of it, and more of them make a step.
    tried = [(one.batch_size, one.accumulation, len(part)) for one, part in asked]
    assert tried == [(4, 2, 4), (2, 4, 2), (1, 8, 1)]
    longest = max(len(example.tokens) for example in batch)
    assert all(max(len(example.tokens) for example in part) == longest for _, part in asked)


def test_free_memory_is_what_the_system_says():
    assert fit.free_memory(torch.device("cpu")) == pytest.approx(psutil.virtual_memory().available, rel=0.2)
