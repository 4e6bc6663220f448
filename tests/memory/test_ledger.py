import gc
import itertools
import random
import weakref

import psutil
import pytest
import torch
from tiny import tiny_model
from torch import nn
from torch.profiler import ProfilerActivity, profile

import labkit as lk
from labkit.memory import KINDS, Ledger
from labkit.models.precision import store_linear_weights
from labkit.quant.bnb import quantized_tensors
from labkit.training.batching import Example, collate
from labkit.training.loop import Trainer


def size(tensors):
    """Bytes of all storages behind some tensors, each counted once."""
    return sum({t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}.values())


class Setup:
    """A model with an optimizer whose states exist, ready for a step to be measured."""

    def __init__(self, model, method, length=48, **settings):
        torch.manual_seed(0)
        rng, vocabulary = random.Random(0), model.module.config.vocab_size
        self.model = lk.methods.get_method(method).apply(model)
        if model.kind == "encoder":
            self.model.head = nn.Linear(model.module.config.hidden_size, 2)
        rows = [[rng.randrange(3, vocabulary) for _ in range(length)] for _ in range(8)]
        learned = 0 if model.kind == "encoder" else length // 2
        examples = [Example(row, learned, number % 2) for number, row in enumerate(rows)]
        self.trainer = Trainer(self.model, examples, lk.TrainingConfig(**{"steps": 9, "batch_size": 4} | settings))
        self.optimizer, self.trained = self.trainer.adamw, self.trainer.parameters
        self.batch = collate(examples[:4], 2, self.model.device)
        self.trainer.step(0)

    def forward(self):
        return self.trainer.objective(self.model, self.batch)[0] / 100

    def step(self):
        return self.trainer.step(1)

    def states(self):
        return [tensor for state in self.optimizer.state.values() for tensor in state.values()]

    def held(self):
        module = self.model.module
        return [*self.model.parameters(), *module.buffers(), *quantized_tensors(module), *self.states()]

    def ledger(self):
        return Ledger(self.model.module, self.optimizer, self.model.head)

    def measured(self):
        """The report of a step."""
        with self.ledger() as ledger:
            self.step()
        return ledger.report


@pytest.fixture
def layered(tiny):
    """A model with most of its memory in its layers: a small vocabulary, many blocks."""
    sizes = {"vocab_size": 200, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 4}
    return tiny_model("llama", tiny.tokenizer, "layered", **sizes)


def bytes_of(parameters):
    return sum(p.numel() * p.element_size() for p in parameters)


def course(report, kind):
    """The bytes of a kind in the course of the step."""
    return [moment[KINDS.index(kind)] for moment in report.timeline]


def last(report):
    return dict(zip(KINDS, report.timeline[-1], strict=True))


# What is held


def test_parameters_are_exact(tiny):
    for method in ["full", "lora"]:
        setup = Setup(tiny, method)
        report = setup.measured()
        trained = bytes_of(setup.trained)
        # Beside the weights there are two tables of rotation frequencies of 4 numbers each.
        frozen = bytes_of(p for p in setup.model.parameters() if not p.requires_grad) + 2 * 4 * 4
        assert (report.trainable, report.frozen, report.quantized) == (trained, frozen, 0)
        assert report.parameters == setup.model.nbytes
        for kind, expected in (("trainable", trained), ("frozen", frozen), ("quantized", 0)):
            assert set(course(report, kind)) == {expected}


def test_weights_in_4_bits_are_exact(tiny):
    for method in [lk.QLoRA(backend="labkit", block_size=32), lk.QLoRA(block_size=32)]:
        setup = Setup(tiny, method)
        report = setup.measured()
        counts = [layer.weight.numel() for name, layer in tiny.module.named_modules() if name.endswith("_proj")]
        assert len(counts) == 14
        # Half a byte a number, a byte for the scale of 32, four for that of 256 scales and four for their mean.
        expected = sum(count // 2 + count // 32 + 4 * -(-count // 32 // 256) + 4 for count in counts)
        if method.backend == "bitsandbytes":
            states = [
                layer.base.weight.quant_state for layer in setup.model.module.modules() if hasattr(layer, "lora_A")
            ]
            assert len(states) == len(counts)
            expected += size(table for state in states for table in (state.code, state.state2.code))
        assert report.quantized == expected
        assert set(course(report, "quantized")) == {expected}
        assert report.parameters == setup.model.nbytes
        assert report.trainable == bytes_of(setup.trained)


def test_after_the_backward_pass_each_trained_weight_has_a_gradient(layered):
    for method in ["full", "lora"]:
        setup = Setup(layered, method)
        with setup.ledger() as ledger:
            setup.forward().backward()
        trained = bytes_of(setup.trained)
        assert last(ledger.report)["gradients"] == trained
        assert last(ledger.report)["optimizer"] == 2 * trained + 4 * len(setup.trained)
        assert last(ledger.report)["activations"] == 0  # all that the forward pass had kept is gone


def test_after_the_first_update_the_optimizer_holds_two_numbers_and_a_step_count(layered):
    for method in ["full", "lora"]:
        setup = Setup(layered, method)
        setup.optimizer = torch.optim.AdamW(setup.trained, lr=1e-3, fused=True)
        with setup.ledger() as ledger:
            setup.forward().backward()
            assert not setup.states()
            setup.optimizer.step()
        trained = bytes_of(setup.trained)
        report = ledger.report
        assert last(report)["optimizer"] == 2 * trained + 4 * len(setup.trained) == size(setup.states())
        assert last(report)["gradients"] == trained
        assert set(course(report, "optimizer")[: report.phases["update"]]) == {0}


def test_gradients_come_and_go(layered):
    setup = Setup(layered, "full")
    gradients = course(setup.measured(), "gradients")
    assert gradients[0] == gradients[-1] == 0
    assert max(gradients) == bytes_of(setup.trained)


def test_gradients_from_before_the_step_count_as_gradients(layered):
    setup = Setup(layered, "full")
    setup.forward().backward()
    with setup.ledger() as ledger:
        setup.optimizer.step()
    assert set(course(ledger.report, "gradients")) == {bytes_of(setup.trained)}
    assert ledger.report.activations == 0


def test_frozen_weights_have_no_gradients(tiny):
    setup = Setup(tiny, "lora")
    trained = bytes_of(setup.trained)
    report = setup.measured()
    assert report.frozen > 50 * trained
    assert max(course(report, "gradients")) == trained


def test_tied_weights_are_counted_once(tiny):
    reports = []
    for tied in (True, False):
        model = tiny_model("llama", tiny.tokenizer, vocab_size=5000, tie_word_embeddings=tied)
        reports.append(Setup(model, "full").measured())
    embedding = 4 * 5000 * 32
    for kind, times in {"trainable": 1, "optimizer": 2, "gradients": 1}.items():
        tied, untied = (max(course(report, kind)) for report in reports)
        assert untied - tied == pytest.approx(times * embedding, abs=4)
    tied, untied = (report.by_module(1) for report in reports)
    logits = 4 * 4 * 24 * 5000  # the head's output, a number for each learned token and word
    assert tied["lm_head"] == logits  # its weight, gradient and states are the embedding's
    assert untied["lm_head"] >= logits + 3 * embedding


# What comes and goes


def test_a_matrix_product_is_counted_to_the_byte():
    layer = nn.Linear(100, 50, bias=False)
    optimizer = torch.optim.AdamW(layer.parameters(), fused=True)
    x = torch.randn(7, 100)
    with Ledger(layer, optimizer) as ledger:
        y = layer(x)
        z = -y
        del y  # this keeps nothing for the backward pass
        total = z.sum()
        del z
        total.backward()
        optimizer.step()
    weight, output = 4 * 100 * 50, 4 * 7 * 50
    moments = [{kind: n for kind, n in zip(KINDS, m, strict=True) if n} for m in ledger.report.timeline]
    assert moments[:6] == [
        {"trainable": weight},
        {"trainable": weight, "activations": output},
        {"trainable": weight, "activations": output, "logits": output},
        {"trainable": weight, "logits": output},
        {"trainable": weight, "logits": output + 4},
        {"trainable": weight, "logits": 4},  # the sum
    ]
    assert moments[-1] == {"trainable": weight, "logits": 4, "gradients": weight, "optimizer": 2 * weight + 4}


class Sum(nn.Module):
    """Adds two matrices, perhaps of two types."""

    def __init__(self, dtype):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(300, 200, dtype=dtype))

    def forward(self, x):
        return self.weight + x


def test_scratch_memory_inside_an_operator_is_seen():
    for dtype, copied in [(torch.float32, 0), (torch.bfloat16, 4 * 300 * 200)]:
        net, x = Sum(dtype), torch.zeros(300, 200)
        with torch.no_grad(), Ledger(net, torch.optim.AdamW(net.parameters())) as ledger:
            net(x)
        # On a CPU, the smaller type is copied to the larger one before the two are added.
        assert ledger.report.peak - ledger.report.trainable == 4 * 300 * 200 + copied


def public_peak(setup):
    """The highest moment of a step by torch's own profiler, starting from what is held."""
    gc.collect()  # so that older garbage is not freed in the middle of the step
    now = peak = size(setup.held())
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        setup.step()
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    for event in sorted(events, key=lambda event: event.start_ns()):
        now += event.nbytes()
        peak = max(peak, now)
    assert len(events) > 100
    return peak


def test_the_peak_is_that_of_the_profiler(request):
    for name, method in [("tiny", "full"), ("layered", "lora"), ("tiny_encoder", "full"), ("tiny_encoder", "lora")]:
        model = request.getfixturevalue(name)
        report = Setup(model, method, length=64).measured()
        assert report.peak == pytest.approx(public_peak(Setup(model, method, length=64)), rel=1e-3)
        assert max(course(report, "activations")) > 0.01 * report.peak


@pytest.mark.parametrize(
    ("method", "dtype", "settings"),
    [
        ("full", torch.bfloat16, {}),
        ("full", torch.float32, {"accumulation": 2, "batch_size": 2}),
        (lk.LoRA(dropout=0.1), torch.bfloat16, {"gradient_checkpointing": True}),
        (lk.LoRA(variant="dora"), torch.float32, {"gradient_checkpointing": True}),
        (lk.QLoRA(), torch.bfloat16, {}),
    ],
)
def test_the_peak_is_that_of_the_profiler_in_other_runs_too(layered, method, dtype, settings):
    store_linear_weights(layered.module, dtype)
    layered.precision = dtype
    report = Setup(layered, method, **settings).measured()
    assert report.peak == pytest.approx(public_peak(Setup(layered, method, **settings)), rel=1e-3)


def test_activations_shrink_under_gradient_checkpointing(layered):
    without = Setup(layered, "full").measured()
    report = Setup(layered, "full", gradient_checkpointing=True).measured()
    assert report.activations < 0.5 * without.activations
    assert report.parameters == without.parameters
    assert report.optimizer == without.optimizer
    # The input of each of four blocks is kept, and what is outside the blocks. In the backward pass, the
    # activations inside one block at a time are added.
    block_input = 4 * 4 * 48 * 64
    kept, most = course(report, "activations")[report.phases["loss"]], max(course(report, "activations"))
    assert 4 * block_input < kept < 9 * block_input
    assert kept + 3 * block_input < most


def test_activations_grow_with_the_batch_and_parameters_do_not(layered):
    small, large = (Setup(layered, "full", batch_size=count).measured() for count in (2, 4))
    assert max(course(large, "activations")) == pytest.approx(2 * max(course(small, "activations")), rel=0.02)
    assert large.parameters == small.parameters
    assert large.optimizer == small.optimizer


def test_logits_grow_with_the_vocabulary(tiny):
    def report(vocabulary):
        model = tiny_model("llama", tiny.tokenizer, vocab_size=vocabulary, tie_word_embeddings=True)
        return Setup(model, "lora").measured()

    small, large = report(1000), report(4000)
    one = 4 * 4 * 24 * 1000  # a number for each learned token and word
    assert max(course(small, "logits")) == pytest.approx(3 * one, rel=0.01)
    assert max(course(large, "logits")) == pytest.approx(3 * 4 * one, rel=0.01)
    assert max(course(large, "activations")) == pytest.approx(max(course(small, "activations")), rel=0.01)


# What a report says


def test_the_peak_is_the_highest_moment_of_the_timeline(layered):
    for method in ["full", "lora"]:
        report = Setup(layered, method).measured()
        assert report.peak == max(sum(moment) for moment in report.timeline)
        assert tuple(getattr(report, kind) for kind in KINDS) in report.timeline
        assert min(min(moment) for moment in report.timeline) >= 0


def test_modules_add_up_to_the_peak(request):
    for name, method in itertools.product(["layered", "tiny_encoder"], ["full", "lora", lk.QLoRA(block_size=32)]):
        setup = Setup(request.getfixturevalue(name), method)
        report = setup.measured()
        paths = dict(setup.model.module.named_modules()).keys() | {"head"}
        assert report.modules.keys() <= paths
        for depth in range(8):
            assert sum(report.by_module(depth).values()) == report.peak
        top = {"model", "lm_head"} if name == "layered" else {"embeddings", "encoder", "pooler", "head"}
        assert report.by_module(1).keys() == {""} | top


def test_equal_blocks_take_equal_memory(layered):
    report = Setup(layered, "lora").measured()
    blocks = [report.by_module(3)[f"model.layers.{number}"] for number in range(4)]
    # The frozen embedding's output has no gradient: in the first block there is less to keep for it.
    assert blocks[0] <= blocks[1]
    assert max(blocks[1:]) < 1.1 * min(blocks[1:])
    assert sum(blocks) > 0.5 * report.peak


def test_the_phases_follow_each_other(request):
    for name, method in itertools.product(["layered", "tiny_encoder"], ["full", "lora"]):
        setup = Setup(request.getfixturevalue(name), method)
        report = setup.measured()
        starts = [report.phases[phase] for phase in ("forward", "loss", "backward", "update")]
        assert 0 < starts[0] < starts[1] < starts[2] < starts[3] < len(report.timeline)
        assert set(course(report, "activations")[: starts[0]]) == {0}
        assert set(course(report, "logits")[: starts[1]]) == {0}
        # Nothing uses the pooler.
        graded = bytes_of(p for path, p in setup.trainer.named.items() if "pooler" not in path)
        assert course(report, "gradients")[starts[3]] == max(course(report, "gradients")) == graded


def test_activations_are_there_until_the_backward_pass(layered):
    for method in ["full", "lora"]:
        report = Setup(layered, method).measured()
        kept = course(report, "activations")
        loss, backward, update = (report.phases[name] for name in ("loss", "backward", "update"))
        assert kept[:loss] == sorted(kept[:loss])
        assert min(kept[loss:backward]) > 0.95 * max(kept) > 0
        assert kept[update] == 0


def test_an_encoders_head_is_a_module_of_its_own(tiny_encoder):
    setup = Setup(tiny_encoder, "lora")
    report = setup.measured()
    head = bytes_of(setup.model.head.parameters())
    assert head == 4 * (2 * 32 + 2)
    assert report.modules["head"] >= 3 * head  # weights and the optimizer's states
    assert report.parameters == setup.model.nbytes
    assert max(course(report, "logits")) >= 4 * 4 * 2  # a number for each text and class


def test_the_memory_of_the_process_is_seen(tiny):
    report = Setup(tiny, "full").measured()
    assert report.resident == pytest.approx(psutil.Process().memory_info().rss, rel=0.3)
    assert report.resident > report.peak


# What measuring does to a step: nothing


@pytest.mark.parametrize("method", ["full", lk.LoRA(dropout=0.2)])
def test_measuring_changes_no_bit(layered, method):
    def step(measured):
        setup = Setup(layered, method)
        torch.manual_seed(5)
        if measured:
            with setup.ledger():
                loss = setup.forward()
                loss.backward()
        else:
            loss = setup.forward()
            loss.backward()
        gradients = [p.grad.clone() for p in setup.trained]
        setup.optimizer.step()
        return [loss.detach(), *gradients, *setup.trained]

    for one, two in zip(step(measured=True), step(measured=False), strict=True):
        assert torch.equal(one, two)


def hooks(setup):
    """How many hooks there are on modules, parameters and the optimizer."""
    modules = [*setup.model.module.modules(), *([setup.model.head] if setup.model.head else [])]
    count = len(setup.optimizer._optimizer_step_pre_hooks)
    count += sum(
        len(m._forward_hooks) + len(m._forward_pre_hooks) + len(m._forward_hooks_always_called) for m in modules
    )
    return count + sum(len(p._post_accumulate_grad_hooks or ()) for p in setup.model.parameters())


def test_nothing_is_left_behind(request):
    for name in ["layered", "tiny_encoder"]:
        setup = Setup(request.getfixturevalue(name), "full")
        before = hooks(setup)
        with setup.ledger() as ledger:
            during = hooks(setup)
            setup.step()
        report = ledger.report

        setup.step()

        assert during > before + 50
        assert hooks(setup) == before
        assert not torch.autograd._profiler_enabled()
        assert ledger.report is report  # later steps are not recorded


def test_an_error_inside_leaves_nothing_either(layered):
    setup = Setup(layered, "full")
    peak = setup.measured().peak
    before = hooks(setup)
    handle = setup.trained[0].register_post_accumulate_grad_hook(lambda parameter: 1 / 0)
    with pytest.raises(ZeroDivisionError), setup.ledger():
        setup.step()
    handle.remove()
    assert hooks(setup) == before
    assert not torch.autograd._profiler_enabled()
    setup.optimizer.zero_grad(set_to_none=True)
    assert setup.measured().peak == peak


def test_an_error_in_the_middle_of_a_forward_pass_leaves_nothing_either(layered):
    setup = Setup(layered, "full")
    before = hooks(setup)
    handle = setup.model.module.model.layers[1].mlp.act_fn.register_forward_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError), setup.ledger() as ledger:
        setup.step()
    handle.remove()
    assert hooks(setup) == before
    assert not torch.autograd._profiler_enabled()
    assert ledger.report.phases.keys() == {"forward"}


def test_before_the_end_there_is_no_report(layered):
    with Setup(layered, "full").ledger() as ledger:
        assert ledger.report is None


def test_a_ledger_frees_the_model(layered):
    setup = Setup(layered, "full")
    with setup.ledger() as ledger:
        setup.step()
    weight = weakref.ref(setup.model.module.model.embed_tokens.weight)
    del setup
    gc.collect()
    assert weight() is None
    assert ledger.report.peak > 0


def test_a_finished_run_frees_its_weights(tiny, colours):
    run = lk.finetune(tiny, colours, "full", steps=3, batch_size=4, progress=False)
    assert run.memory.peak > 0
    weight = weakref.ref(run.model.module.model.embed_tokens.weight)
    del run
    gc.collect()
    assert weight() is None
