"""The reference for the extrapolation is a simulation of all blocks, and that of the simulation a real step."""

import pkgutil
import resource
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from tiny import alike, model_of, tiny_config
from torch import nn

import labkit as lk
from labkit import planning
from labkit.memory import KINDS, Ledger
from labkit.models.architectures import ARCHITECTURES
from labkit.models.config import blueprint_config
from labkit.models.precision import store_linear_weights
from labkit.planning import EstimateWarning, Step, predict, predict_step
from labkit.planning.allocator import allocated, reserved
from labkit.planning.estimate import estimate
from labkit.planning.simulate import simulate
from labkit.training.batching import Example
from labkit.training.config import TrainingConfig
from labkit.training.loop import Trainer
from labkit.training.packing import join

pytestmark = pytest.mark.usefixtures("one_thread")
FEW = {"rank": 2, "target_modules": ["q_proj", "down_proj"]}  # fewer adapters make the tests faster
METHODS = {
    "full": lk.FullFineTuning(),
    "lora": lk.LoRA(**FEW),
    "dropout": lk.LoRA(**FEW, dropout=0.1),
    "dora": lk.LoRA(**FEW, variant="dora"),
    "pissa": lk.LoRA(**FEW, variant="pissa"),
    "qlora": lk.QLoRA(**FEW, block_size=32),
    "qlora labkit": lk.QLoRA(**FEW, block_size=32, backend="labkit"),
    "lora everywhere": lk.LoRA(rank=2),
    "qlora everywhere": lk.QLoRA(rank=2, block_size=32),
}
QUERY = {
    "gpt_neox": "query_key_value",
    "phi3": "qkv_proj",
    "bert": "query",
    "roberta": "query",
    "distilbert": "q_lin",
}
PLANNED = [name for name, known in ARCHITECTURES.items() if known.planned]
STORED = ("trainable", "frozen", "quantized", "optimizer")
F32, B16 = torch.float32, torch.bfloat16


def in_full(config, method, training, examples, precision):
    """A step with all blocks simulated, and the phase of its highest moment."""
    trace, blocks = simulate(Step(config, method, training, examples, precision))
    assert len(blocks) == config.num_hidden_layers
    report = trace.report()
    top = max(range(len(report.timeline)), key=lambda moment: sum(report.timeline[moment]))
    return trace, report, [name for name, start in report.phases.items() if start <= top][-1]


def assert_predicted(made, trace, report):
    assert made.tensors.peak == pytest.approx(report.peak, rel=1e-4)
    for kind in STORED:
        assert getattr(made.tensors, kind) == getattr(report, kind)
    # In such small models, rounding the sizes up may move the peak to another moment.
    assert made.allocated.peak == pytest.approx(trace.rounded(allocated).report().peak, rel=0.01)
    assert made.reserved.peak == pytest.approx(trace.rounded(reserved).report().peak, rel=0.01)


@pytest.mark.parametrize("kind", PLANNED)
def test_four_blocks_are_predicted_from_two_and_three(kind):
    sizes = {"sliding_window": 8} if kind in ("gemma2", "mistral") else {}
    config, batch = tiny_config(kind, num_hidden_layers=4, **sizes), alike(4, 32, 31)
    run = config, METHODS["full"], TrainingConfig(batch_size=4), batch, F32
    assert_predicted(predict_step(Step(*run)), *in_full(*run)[:2])


@pytest.mark.parametrize(
    ("method", "precision", "settings", "shape"),
    [
        ("full", B16, {"gradient_checkpointing": True, "accumulation": 3}, (8, 64, 5)),
        ("dropout", B16, {"gradient_checkpointing": True}, (8, 64, 5)),
        ("dora", B16, {"accumulation": 3}, (8, 64, 63)),
        ("pissa", F32, {}, (8, 64, 5)),
        ("qlora", B16, {"gradient_checkpointing": True}, (8, 64, 5)),
        ("qlora labkit", F32, {}, (2, 64, 5)),
    ],
)
def test_every_way_of_training_is_predicted(method, precision, settings, shape):
    training = TrainingConfig(batch_size=shape[0], **settings)
    run = tiny_config(num_hidden_layers=4), METHODS[method], training, alike(*shape), precision
    assert_predicted(predict_step(Step(*run)), *in_full(*run)[:2])


@pytest.mark.parametrize(
    ("phase", "gradients", "vocabulary", "checkpointing", "shape"),
    [
        ("loss", (0, 0), 3000, False, (4, 32, 31)),
        ("backward", (0.05, 0.07), 100, False, (8, 64, 5)),
        ("backward", (0.09, 0.11), 100, True, (8, 64, 5)),
        ("backward", (0.9, 1), 100, False, (1, 4, 1)),
    ],
    ids=["many outputs", "many tokens", "many tokens, recomputed", "few tokens"],
)
def test_the_peak_is_found_in_whatever_stage_it_is(phase, gradients, vocabulary, checkpointing, shape):
    training = TrainingConfig(batch_size=shape[0], gradient_checkpointing=checkpointing)
    config = tiny_config(num_hidden_layers=5, vocab_size=vocabulary)
    run = config, METHODS["full"], training, alike(*shape), F32
    trace, report, found = in_full(*run)
    assert found == phase
    assert gradients[0] <= report.gradients / report.trainable <= gradients[1]
    assert_predicted(predict_step(Step(*run)), trace, report)


@pytest.mark.parametrize(("layers", "checkpointing"), [(1, True), (2, False), (3, True)])
def test_few_blocks_need_no_line(layers, checkpointing):
    training = TrainingConfig(batch_size=2, gradient_checkpointing=checkpointing)
    run = tiny_config(num_hidden_layers=layers), METHODS["full"], training, alike(2, 16, 15), B16
    report = in_full(*run)[1]
    made = predict_step(Step(*run)).tensors
    assert {kind: getattr(made, kind) for kind in KINDS} == {kind: getattr(report, kind) for kind in KINDS}


# A real step


def measured(config, method, training, examples, precision):
    """What the second step of a run held, of a model that is stored as ``load_model`` stores it."""
    base = model_of(config, SimpleNamespace(pad_token_id=0))
    store_linear_weights(base.module, precision)
    base.precision = precision
    model = method.apply(base)
    if model.kind == "encoder":
        model.head = nn.Linear(config.hidden_size, 3)
    trainer = Trainer(model, examples, replace(training, steps=2))
    trainer.run()
    return trainer.memory


def assert_measured(report, real, rel=5e-3):
    assert report.peak == pytest.approx(real.peak, rel=rel)
    for kind in STORED:
        assert getattr(report, kind) == getattr(real, kind)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize(("method", "precision"), [("full", F32), ("full", B16), ("dora", B16), ("qlora", B16)])
def test_a_real_step_holds_what_was_predicted(method, precision, checkpointing):
    config = tiny_config(vocab_size=2000, hidden_size=64, intermediate_size=128, num_hidden_layers=2)
    training = TrainingConfig(batch_size=8, gradient_checkpointing=checkpointing)
    examples = alike(8, 64, 32)
    report = predict_step(Step(config, METHODS[method], training, examples, precision)).tensors
    assert_measured(report, measured(config, METHODS[method], training, examples, precision))


@pytest.mark.parametrize("kind", PLANNED)
def test_a_real_step_of_every_architecture_holds_what_was_predicted(kind):
    config, examples = tiny_config(kind, num_hidden_layers=2), alike(4, 64, 32)
    training = TrainingConfig(batch_size=4)
    report = predict_step(Step(config, lk.LoRA(rank=2), training, examples, F32, classes=3)).tensors
    assert_measured(report, measured(config, lk.LoRA(rank=2), training, examples, F32))


@pytest.mark.parametrize(
    ("method", "precision", "checkpointing"),
    [("full", F32, False), ("full", B16, True), ("lora everywhere", B16, False), ("qlora everywhere", F32, True)],
)
def test_a_real_step_of_an_encoder_holds_what_was_predicted(method, precision, checkpointing):
    config = tiny_config("bert", num_hidden_layers=2)
    training = TrainingConfig(batch_size=16, gradient_checkpointing=checkpointing)
    examples = alike(16, 64, 0)
    report = predict_step(Step(config, METHODS[method], training, examples, precision, classes=3)).tensors
    assert_measured(report, measured(config, METHODS[method], training, examples, precision))


@pytest.mark.parametrize("times", [2, 3])
def test_a_real_step_of_several_batches_holds_what_was_predicted(times):
    config = tiny_config(vocab_size=2000, num_hidden_layers=2)
    training = TrainingConfig(batch_size=4, accumulation=times)
    examples = alike(4, 32, 31)
    report = predict_step(Step(config, METHODS["full"], training, examples, F32)).tensors
    alone = predict_step(Step(config, METHODS["full"], replace(training, accumulation=1), examples, F32)).tensors
    assert_measured(report, measured(config, METHODS["full"], training, examples, F32))
    assert report.peak > alone.peak + 0.9 * report.trainable  # the gradients of the batches before


@pytest.mark.parametrize("checkpointing", [False, True])
def test_padding_is_predicted(checkpointing):
    config = tiny_config(vocab_size=2000, hidden_size=64, num_hidden_layers=2)
    training = TrainingConfig(batch_size=8, gradient_checkpointing=checkpointing)
    examples = [*alike(4, 40, 5), *alike(4, 64, 32)]
    report = predict_step(Step(config, METHODS["lora"], training, examples, F32)).tensors
    assert_measured(report, measured(config, METHODS["lora"], training, examples, F32))
    assert report.peak != predict_step(Step(config, METHODS["lora"], training, alike(8, 64, 32), F32)).tensors.peak


@pytest.mark.parametrize(("method", "precision", "checkpointing"), [("full", F32, False), ("lora", B16, True)])
@pytest.mark.parametrize("packed", [False, True])
def test_masks_and_packed_rows_are_predicted(method, precision, checkpointing, packed):
    config = tiny_config(vocab_size=2000, hidden_size=64, num_hidden_layers=2)
    training = TrainingConfig(batch_size=4, gradient_checkpointing=checkpointing)
    mask = tuple(i % 4 == 1 for i in range(32))
    examples = [Example([3] * 32, sum(mask), mask=mask), Example([3] * 32, 16)] * 2
    if packed:
        examples = [join([*examples[:2], short]) for short in alike(4, 9, 5)]
    report = predict_step(Step(config, METHODS[method], training, examples, precision)).tensors
    assert_measured(report, measured(config, METHODS[method], training, examples, precision))
    plain = [Example(example.tokens, len(example.tokens) - 1) for example in examples]
    assert predict_step(Step(config, METHODS[method], training, plain, precision)).tensors.peak != report.peak


def pairs(count):
    """Pairs of texts of 32 tokens, half of them learned."""
    mask = (False,) * 16 + (True,) * 16
    return [Example([3 + row] * 32, 16, mask=mask) for row in range(2 * count)]


@pytest.mark.parametrize(
    ("loss", "method", "precision", "settings"),
    [
        ("dpo", "full", F32, {"accumulation": 2}),
        ("kto", "lora", F32, {}),
        ("kto", "full", B16, {"gradient_checkpointing": True}),
        ("orpo", "dropout", F32, {}),
    ],
)
def test_a_real_step_of_pairs_holds_what_was_predicted(loss, method, precision, settings):
    config, examples = tiny_config(vocab_size=2000, num_hidden_layers=2), pairs(3)
    training = TrainingConfig(batch_size=3, preference=loss, **settings)
    report = predict_step(Step(config, METHODS[method], training, examples, precision)).tensors
    assert_measured(report, measured(config, METHODS[method], training, examples, precision))


@pytest.mark.parametrize(("loss", "vocabulary"), [("dpo", 100), ("kto", 100), ("kto", 3000)])
def test_pairs_in_four_blocks_are_predicted_from_two_and_three(loss, vocabulary):
    config, training = (
        tiny_config(num_hidden_layers=4, vocab_size=vocabulary),
        TrainingConfig(batch_size=2, preference=loss),
    )
    run = config, METHODS["full"], training, pairs(2), F32
    assert_predicted(predict_step(Step(*run)), *in_full(*run)[:2])


def test_a_reference_copy_of_pairs_adds_its_weights():
    config, examples = tiny_config(vocab_size=2000, num_hidden_layers=2), pairs(3)
    training = TrainingConfig(batch_size=3, steps=2, preference="dpo")
    step = Step(config, METHODS["lora"], training, examples, F32, reference_copy=True)
    base, copy = (model_of(config, SimpleNamespace(pad_token_id=0)) for _ in range(2))
    trainer = Trainer(METHODS["lora"].apply(base), examples, training)
    trainer.prepare()
    trainer.step(0)
    with Ledger(trainer.model.module, trainer.adamw, beside={"reference": copy.module}) as ledger:
        trainer.step(1)
    report = predict_step(step).tensors
    assert_measured(report, ledger.report, rel=1e-3)
    alone = predict_step(replace(step, reference_copy=False)).tensors
    assert (report.peak, report.frozen) == (alone.peak + copy.nbytes, alone.frozen + copy.nbytes)


@pytest.mark.parametrize("preference", [None, "orpo"])
def test_where_nothing_is_compared_a_reference_is_refused(preference):
    training = TrainingConfig(batch_size=3, preference=preference)
    with pytest.raises(lk.LabkitError, match=r"(This run|orpo) compares with no reference"):
        Step(tiny_config(), METHODS["full"], training, pairs(3), reference_copy=True)


def test_a_plan_of_pairs_is_of_both_their_texts():
    config, training = tiny_config(num_hidden_layers=2), TrainingConfig(batch_size=3, preference="dpo")
    made = lk.plan(config, "full", length=32, learned=16, precision="float32", batch_size=3, preference="dpo")
    assert made.peak == predict_step(Step(config, METHODS["full"], training, pairs(3), F32)).tensors.peak


def test_layers_of_single_blocks_may_be_named():
    """Two and three blocks, from which others are extrapolated, don't have the fourth."""
    config, examples = tiny_config(num_hidden_layers=4), alike(4, 32, 31)
    method = lk.LoRA(rank=2, target_modules=("layers.0.self_attn.q_proj", "model.layers.3.mlp.down_proj"))
    step = Step(config, method, TrainingConfig(batch_size=4), examples, F32)
    trace, _ = simulate(step)
    assert predict_step(step).tensors == trace.report()
    assert_measured(predict_step(step).tensors, measured(config, method, step.training, examples, F32))
    guess = estimate(step)
    assert (guess.trainable, guess.frozen) == (trace.report().trainable, trace.report().frozen)
    assert Step(config, METHODS["lora"], step.training, examples).alike


# What is left alone


def test_nothing_of_the_models_size_is_allocated():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    training = TrainingConfig(batch_size=1)
    report = predict_step(
        Step(blueprint_config("llama-65b"), METHODS["full"], training, alike(1, 512, 511), B16)
    ).tensors
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert report.peak > 1e12
    assert (after - before) * 2**10 < 3e8  # in KiB on Linux


def test_a_run_after_a_prediction_is_the_run_without(tiny, colours):
    def losses():
        run = lk.finetune(tiny, colours, steps=2, batch_size=2, progress=False)
        return [row["loss"] for row in run.history]

    before = losses()
    kept = torch.get_default_dtype(), torch.get_default_device(), torch.is_autocast_enabled("cpu")
    for precision in (torch.float16, B16):
        predict_step(
            Step(tiny_config(num_hidden_layers=2), METHODS["lora"], TrainingConfig(), alike(2, 8, 4), precision)
        )
        assert (torch.get_default_dtype(), torch.get_default_device(), torch.is_autocast_enabled("cpu")) == kept
        assert torch.utils._python_dispatch._get_current_dispatch_mode() is None
        assert losses() == before


def test_the_configuration_is_left_as_it_was():
    config = tiny_config("qwen3")
    before = config.to_dict()
    training = TrainingConfig(batch_size=2, gradient_checkpointing=True)
    predict_step(Step(config, METHODS["full"], training, alike(2, 8, 4), F32))
    assert config.to_dict() == before


def test_an_error_leaves_no_mode_behind():
    with pytest.raises(lk.LabkitError, match="rank=999"):
        predict_step(Step(tiny_config(), lk.LoRA(rank=999), TrainingConfig(), alike(2, 8, 4), F32))
    assert torch.utils._python_dispatch._get_current_dispatch_mode() is None
    assert torch.ones(1).item() == 1


# Without a simulation


def test_an_estimate_for_examples_of_unlike_length_is_for_the_longest_and_for_all_columns(monkeypatch):
    monkeypatch.setattr(predict, "SUPPORTED", False)
    config, examples = tiny_config(num_hidden_layers=1), [*alike(2, 8, 7), *alike(1, 16, 3)]
    with pytest.warns(EstimateWarning):
        made = predict_step(Step(config, lk.LoRA(), TrainingConfig(), examples))
    assert made.tensors == estimate(Step(config, lk.LoRA(), TrainingConfig(), alike(3, 16, 7 + 3)))


def test_the_simulation_needs_nothing_that_this_torch_lacks():
    assert predict.can_simulate()


def test_what_planning_exports_has_no_name_of_a_module():
    """Otherwise ``from labkit.planning import X`` would depend on what was imported first."""
    modules = {module.name for module in pkgutil.iter_modules(planning.__path__)}
    assert not modules & set(planning.__all__)
