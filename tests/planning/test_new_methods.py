"""The references are what a real run held, a simulation of all blocks, and numbers worked out by hand."""

import pytest
import torch
from tiny import alike, tiny_config, tiny_model

import labkit as lk
from labkit.models.meta import meta_model
from labkit.models.precision import store_linear_weights
from labkit.planning import Step, fit, predict_step
from labkit.planning.adapt import adapt_model
from labkit.planning.allocator import allocated, reserved
from labkit.planning.estimate import estimate
from labkit.planning.simulate import simulate
from labkit.training.config import TrainingConfig

pytestmark = pytest.mark.usefixtures("one_thread")
ADAPTERS = {
    "houlsby": lk.BottleneckAdapters(size=4),
    "pfeiffer": lk.BottleneckAdapters(size=4, placement="pfeiffer"),
    "parallel": lk.BottleneckAdapters(size=4, placement="parallel"),
    "ia3": lk.IA3(),
    "prefix": lk.PrefixTuning(virtual_tokens=5),
    "prompt": lk.PromptTuning(virtual_tokens=5),
}
METHODS = ADAPTERS | {"head": lk.HeadOnly()}
BOTH = [
    *(("tiny", name) for name in ADAPTERS),
    *(("tiny_encoder", name) for name in ("parallel", "prefix", "prompt", "head")),
]
STORED = ("trainable", "frozen", "quantized", "optimizer")
QUICK = {"steps": 2, "batch_size": 4}
F32, B16 = torch.float32, torch.bfloat16


def in_16_bits(model):
    model.precision = B16
    store_linear_weights(model.module, B16)
    return model


def assert_predicted(model, task, method, **settings):
    report = lk.predict_memory(model, task, method, **QUICK, **settings)
    real = lk.finetune(model, task, method, progress=False, **QUICK, **settings).memory
    assert report.peak == pytest.approx(real.peak, rel=5e-3)
    for kind in STORED:
        assert getattr(report, kind) == getattr(real, kind)
    # The weights are most of such a small model, and are known beforehand.
    moving, real_moving = (each.peak - sum(getattr(each, kind) for kind in STORED) for each in (report, real))
    assert moving == pytest.approx(real_moving, rel=0.05)


def test_a_run_holds_what_was_predicted(request, colours):
    for fixture, name in BOTH:
        assert_predicted(request.getfixturevalue(fixture), colours, METHODS[name])


@pytest.mark.parametrize(("fixture", "name"), [("tiny", "prefix"), ("tiny_encoder", "parallel")])
def test_a_run_in_16_bits_holds_what_was_predicted(request, colours, fixture, name):
    assert_predicted(in_16_bits(request.getfixturevalue(fixture)), colours, METHODS[name])


@pytest.mark.parametrize(("fixture", "name"), [("tiny", "ia3"), ("tiny_encoder", "prompt"), ("tiny_encoder", "head")])
def test_a_run_with_gradient_checkpointing_holds_what_was_predicted(request, colours, fixture, name):
    model, settings = request.getfixturevalue(fixture), QUICK | {"gradient_checkpointing": True}
    report = lk.predict_memory(model, colours, METHODS[name], **settings)
    real = lk.finetune(model, colours, METHODS[name], progress=False, **settings).memory
    assert report.peak == pytest.approx(real.peak, rel=0.01)


def test_a_run_over_4_bits_holds_what_was_predicted(request, colours):
    for fixture, name, backend in [
        ("tiny", "pfeiffer", "bitsandbytes"),
        ("tiny", "ia3", "bitsandbytes"),
        ("tiny", "prefix", "bitsandbytes"),
        ("tiny", "prompt", "labkit"),
        ("tiny_encoder", "head", "bitsandbytes"),
    ]:
        stored = lk.Quantization(block_size=32, backend=backend)
        assert_predicted(lk.quantize_model(request.getfixturevalue(fixture), stored), colours, METHODS[name])


@pytest.mark.parametrize("backend", ["labkit", "bitsandbytes"])
def test_lora_over_4_bits_takes_what_qlora_takes(backend):
    floats = tiny_model(name="floats", num_hidden_layers=1)
    base = lk.quantize_model(floats, lk.Quantization(block_size=32, backend=backend))
    few = {"rank": 2, "target_modules": ["q_proj", "down_proj"]}
    over = lk.plan(base, lk.LoRA(**few), length=32)
    own = lk.plan(floats, lk.QLoRA(**few, block_size=32, backend=backend), length=32)
    assert over.prediction == own.prediction
    assert over.report.quantized > 0


# Many blocks

CASES = [
    ("llama", "houlsby"),
    ("llama", "parallel"),
    ("gpt_neox", "ia3"),
    ("opt", "prompt"),
    ("bert", "prefix"),
    ("bert", "head"),
    ("distilbert", "pfeiffer"),
]


def assert_extrapolated(run):
    """The prediction from two blocks and three is a simulation of them all."""
    trace, blocks = simulate(run)
    assert len(blocks) == run.config.num_hidden_layers
    report, made = trace.report(), predict_step(run)
    assert made.tensors.peak == pytest.approx(report.peak, rel=1e-4)
    for kind in STORED:
        assert getattr(made.tensors, kind) == getattr(report, kind)
    assert made.allocated.peak == pytest.approx(trace.rounded(allocated).report().peak, rel=0.01)
    assert made.reserved.peak == pytest.approx(trace.rounded(reserved).report().peak, rel=0.01)


def test_four_blocks_are_predicted_from_two_and_three():
    for kind, name in CASES:
        config = tiny_config(kind, num_hidden_layers=4)
        assert_extrapolated(Step(config, METHODS[name], TrainingConfig(batch_size=4), alike(4, 16, 8), F32))


def test_a_cache_that_outlives_the_forward_pass_moves_the_peak_of_a_deep_model():
    config = tiny_config("llama", num_hidden_layers=16, vocab_size=1024)
    run = Step(config, lk.PrefixTuning(virtual_tokens=16), TrainingConfig(batch_size=8), alike(8, 24, 8), F32)
    assert_extrapolated(run)


@pytest.mark.parametrize(
    ("name", "settings", "stored"),
    [
        ("prefix", {"accumulation": 2}, lk.Quantization(block_size=32)),
        ("prompt", {"gradient_checkpointing": True}, None),
    ],
)
def test_every_way_of_training_is_predicted(name, settings, stored):
    training, examples = TrainingConfig(batch_size=4, **settings), [*alike(2, 8, 5), *alike(2, 16, 8)]
    assert_extrapolated(
        Step(tiny_config(num_hidden_layers=4), METHODS[name], training, examples, B16, quantization=stored)
    )


# Published models


@pytest.fixture(scope="module")
def plans():
    names = ("prompt", "ia3", "prefix", "bottleneck", "lora", "full")
    return {name: lk.plan("llama-7b", name, length=64) for name in names}


def test_what_is_trained_of_a_published_model_is_as_many_numbers_as_the_papers_say(plans):
    layers, width, inner = 32, 4096, 11008
    numbers = {
        "prompt": 16 * width,
        "ia3": layers * (2 * width + inner),
        "prefix": 16 * layers * 2 * width,
        "bottleneck": layers * 2 * (2 * 16 * width + 16 + width),
        "lora": layers * 8 * (4 * 2 * width + 3 * (width + inner)),
    }
    assert {name: made.report.trainable for name, made in plans.items() if name != "full"} == {
        name: 4 * count for name, count in numbers.items()
    }


def test_methods_that_train_less_hold_less(plans):
    for less, more in zip(list(plans)[:-1], list(plans)[1:], strict=True):
        one, two = plans[less].report, plans[more].report
        assert one.trainable < two.trainable, (less, more)
        assert one.optimizer < two.optimizer, (less, more)
    assert all(made.peak < 0.2 * plans["full"].peak for name, made in plans.items() if name != "full")
    assert all(plans[name].peak < plans["lora"].peak for name in ("prompt", "ia3", "prefix", "bottleneck"))


def test_frozen_weights_are_those_of_the_model_in_16_bits(plans):
    expected = 2 * 6_738_415_616
    for name in ("prompt", "ia3", "prefix", "bottleneck", "lora"):
        # Embeddings and norms stay in 32 bits.
        assert plans[name].report.frozen == pytest.approx(expected + 2 * 32000 * 4096, rel=1e-3)


def test_more_virtual_tokens_take_more():
    for method in [lk.PrefixTuning, lk.PromptTuning]:
        config = tiny_config(num_hidden_layers=1)
        few, many = (lk.plan(config, method(virtual_tokens=count), length=32) for count in (4, 64))
        assert many.report.trainable == 16 * few.report.trainable
        assert many.peak > few.peak


def test_a_head_is_planned_for_an_encoder():
    report = lk.plan("minilm", "head", length=64).report
    assert report.trainable == 4 * (2 * 384 + 2)
    assert report.activations == 0  # nothing has to be kept for a backward pass


# The formula


def test_the_formula_counts_weights_gradients_and_states_exactly():
    for kind, name in [*(("llama", name) for name in ADAPTERS), ("bert", "prefix"), ("bert", "head")]:
        config = tiny_config(kind)
        report = estimate(Step(config, METHODS[name], TrainingConfig(batch_size=1), alike(1, 16, 8), B16))
        model = adapt_model(meta_model(config, B16), METHODS[name])
        trained = sum(p.numel() for p in model.trainable().values())
        assert report.trainable == report.gradients == 4 * trained
        assert report.optimizer == 8 * trained
        assert report.parameters == model.nbytes


# What is refused


def test_a_causal_model_has_no_head_to_plan_for():
    for name in ["llama-7b", "smollm2-135m", "gpt3-175b"]:
        with pytest.raises(lk.LabkitError, match=r"no classifier of its own.*\n.*Use an encoder"):
            lk.plan(name, "head", length=16)


def test_prefix_tuning_is_not_planned_with_gradient_checkpointing():
    for kind in ["llama", "bert"]:
        config = tiny_config(kind)
        with pytest.raises(lk.LabkitError, match=r"checkpointing exclude each other.*\n.*gradient_checkpointing=False"):
            lk.plan(config, "prefix", length=16, gradient_checkpointing=True)


def test_prefix_tuning_with_gradient_checkpointing_is_not_predicted(tiny, colours):
    with pytest.raises(lk.LabkitError, match="exclude each other"):
        lk.predict_memory(tiny, colours, "prefix", gradient_checkpointing=True, **QUICK)


def test_an_encoder_that_takes_no_prefix_is_not_planned_for():
    with pytest.raises(lk.LabkitError, match="'distilbert' take no keys and values"):
        lk.plan(tiny_config("distilbert"), "prefix", length=16)


def test_a_plan_for_more_than_the_model_can_read_is_refused():
    for name in ["prefix", "prompt"]:
        config = tiny_config(num_hidden_layers=1)
        assert lk.plan(config, METHODS[name], length=507).peak > 0
        with pytest.raises(lk.LabkitError, match="5 virtual tokens and a text of 508 are more than the 512"):
            lk.plan(config, METHODS[name], length=508)


def test_the_longest_text_leaves_room_for_virtual_tokens():
    for name in ["prefix", "prompt"]:
        made = lk.plan(tiny_config(num_hidden_layers=1), METHODS[name], length=16, gpu="24GB")
        assert made.largest_length() == 507


def test_the_ways_to_go_on_from_prefix_tuning_name_no_gradient_checkpointing_of_it(tiny, colours, monkeypatch):
    monkeypatch.setattr(fit, "free_memory", lambda device: 8_000_000)
    monkeypatch.setattr(fit, "WAYS", 1)
    with pytest.raises(lk.LabkitError, match="more memory") as caught:
        lk.finetune(tiny, colours, METHODS["prefix"], batch_size=16, steps=2, progress=False)
    assert caught.value.remedy.startswith("These would fit: batch_size=")
