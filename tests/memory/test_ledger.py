import gc
import weakref

import pytest
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

import labkit as lk
from labkit.assets.models import Model
from labkit.memory import KINDS, Ledger, MemoryReport
from labkit.training.batching import Example, collate
from labkit.training.objectives import completion_loss


def size(tensors):
    """Bytes of all storages behind some tensors, each counted once."""
    return sum({t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}.values())


class Setup:
    """A model with an optimizer whose states exist, ready for a step to be measured."""

    def __init__(self, model, method, examples=8, length=48):
        torch.manual_seed(0)
        self.model = lk.methods.get_method(method).apply(model)
        self.model.module.train()
        self.trained = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(self.trained, lr=1e-3, fused=True)
        vocabulary = model.module.config.vocab_size
        rows = torch.randint(3, vocabulary, (examples, length)).tolist()
        self.batch = collate([Example(row, length // 2) for row in rows], 2, self.model.device)
        self.step()

    def forward(self):
        return completion_loss(self.model, self.batch)[0] / 100

    def step(self):
        loss = self.forward()
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return loss.detach()

    def states(self):
        return [tensor for state in self.optimizer.state.values() for tensor in state.values()]

    def ledger(self):
        return Ledger(self.model.parameters(), self.optimizer, self.model.module.buffers())


@pytest.fixture
def layered(tiny, llama):
    """A model whose memory lies in its layers: a small vocabulary, many blocks."""
    module = llama(200, hidden_size=64, intermediate_size=128, num_hidden_layers=6, tie_word_embeddings=False)
    return Model("layered", module, tiny.tokenizer, "causal", torch.float32)


def last(report):
    return dict(zip(KINDS, report.timeline[-1], strict=True))


@pytest.mark.parametrize("method", ["full", "lora"])
def test_parameters_are_exact(tiny, method):
    setup = Setup(tiny, method)
    with setup.ledger() as ledger:
        setup.step()
    expected = size([*setup.model.parameters(), *setup.model.module.buffers()])
    # Each number takes 4 bytes; the buffers are the two tables of rotation frequencies of 4 numbers each.
    assert expected == 4 * sum(p.numel() for p in setup.model.parameters()) + 2 * 4 * 4
    assert ledger.report.parameters == expected
    assert {moment[0] for moment in ledger.report.timeline[100:]} == {expected}


@pytest.mark.parametrize("method", ["full", "lora"])
def test_after_the_backward_pass_each_trained_weight_has_a_gradient(tiny, method):
    setup = Setup(tiny, method)
    with setup.ledger() as ledger:
        setup.forward().backward()
    trained = 4 * sum(p.numel() for p in setup.trained)
    assert last(ledger.report)["gradients"] == trained
    assert last(ledger.report)["optimizer"] == 2 * trained + 4 * len(setup.trained)
    batch = [setup.batch.input_ids, setup.batch.attention_mask, setup.batch.targets]
    assert last(ledger.report)["activations"] <= size(batch)  # all that the forward pass had kept is gone


@pytest.mark.parametrize("method", ["full", "lora"])
def test_after_the_first_update_the_optimizer_holds_two_numbers_and_a_step_count(tiny, method):
    setup = Setup(tiny, method)
    setup.optimizer = torch.optim.AdamW(setup.trained, lr=1e-3, fused=True)
    with setup.ledger() as ledger:
        setup.forward().backward()
        assert not setup.states()
        setup.optimizer.step()
    trained = 4 * sum(p.numel() for p in setup.trained)
    assert last(ledger.report)["optimizer"] == 2 * trained + 4 * len(setup.trained)
    assert last(ledger.report)["gradients"] == trained
    assert ledger.report.timeline[len(setup.trained)][2] == 0  # before the update there was none


def test_gradients_are_gone_after_zero_grad(tiny):
    setup = Setup(tiny, "full")
    with setup.ledger() as ledger:
        setup.step()
    assert last(ledger.report)["gradients"] == 0
    assert max(moment[KINDS.index("gradients")] for moment in ledger.report.timeline) == 4 * sum(
        p.numel() for p in setup.trained
    )


def test_gradients_from_before_are_booked_as_such(tiny):
    setup = Setup(tiny, "full")
    setup.forward().backward()
    with setup.ledger() as ledger:
        setup.optimizer.step()
    assert last(ledger.report)["gradients"] == 4 * sum(p.numel() for p in setup.trained)
    assert ledger.report.activations == 0


def test_frozen_weights_have_no_gradients(tiny):
    setup = Setup(tiny, "lora")
    frozen = sum(p.numel() for p in setup.model.parameters() if not p.requires_grad)
    trained = sum(p.numel() for p in setup.trained)
    assert frozen > 50 * trained
    with setup.ledger() as ledger:
        setup.step()
    assert max(moment[KINDS.index("gradients")] for moment in ledger.report.timeline) == 4 * trained


def test_a_matrix_product_is_booked_to_the_byte():
    layer = nn.Linear(100, 50, bias=False)
    optimizer = torch.optim.AdamW(layer.parameters(), fused=True)
    x = torch.randn(7, 100)
    with Ledger(layer.parameters(), optimizer) as ledger:
        y = layer(x)
        z = y * 2
        del y  # a product with a number keeps nothing for the backward pass
        total = z.sum()
        del z
        total.backward()
        optimizer.step()
    weight, output = 4 * 100 * 50, 4 * 7 * 50
    moments = ledger.report.timeline
    assert moments[0] == (weight, 0, 0, 0)
    assert moments[1] == (weight, 0, 0, output)
    assert moments[2] == (weight, 0, 0, 2 * output)
    assert moments[3] == (weight, 0, 0, output)
    assert last(ledger.report) == {
        "parameters": weight,
        "gradients": weight,
        "optimizer": 2 * weight + 4,
        "activations": 4,  # the sum, which the name `total` still holds
    }


@pytest.mark.parametrize("name", ["tiny", "layered"])
@pytest.mark.parametrize("method", ["full", "lora"])
def test_the_peak_is_that_of_the_profiler(request, name, method):
    model = request.getfixturevalue(name)
    setup = Setup(model, method, examples=8, length=64)
    with setup.ledger() as ledger:
        setup.step()

    setup = Setup(model, method, examples=8, length=64)
    now = peak = size([*setup.model.parameters(), *setup.model.module.buffers(), *setup.states()])
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        setup.step()
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    for event in sorted(events, key=lambda event: event.start_ns()):
        now += event.nbytes()
        peak = max(peak, now)

    assert len(events) > 100
    assert ledger.report.peak == pytest.approx(peak, rel=0.02)
    assert ledger.report.activations > 0.3 * peak


def test_the_peak_is_the_highest_moment_of_the_timeline(tiny):
    setup = Setup(tiny, "full")
    with setup.ledger() as ledger:
        setup.step()
    report = ledger.report
    assert report.peak == max(sum(moment) for moment in report.timeline)
    assert tuple(getattr(report, kind) for kind in KINDS) in report.timeline
    assert min(min(moment) for moment in report.timeline) >= 0


@pytest.mark.parametrize("method", ["full", lk.LoRA(dropout=0.2)])
def test_measuring_changes_no_bit(tiny, method):
    def step(measured):
        setup = Setup(tiny, method)
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


def test_nothing_is_left_behind(tiny):
    setup = Setup(tiny, "full")
    watches = len(weakref.finalize._registry)
    with setup.ledger() as ledger:
        setup.step()
    events = len(ledger._events)

    setup.step()

    assert not any(p._post_accumulate_grad_hooks for p in setup.trained)
    assert len(ledger._events) == events  # later steps are not booked
    assert len(weakref.finalize._registry) == watches


def test_an_error_inside_leaves_nothing_either(tiny):
    setup = Setup(tiny, "full")
    watches = len(weakref.finalize._registry)
    weight = setup.trained[0]
    weight.register_post_accumulate_grad_hook(lambda parameter: 1 / 0)
    with pytest.raises(ZeroDivisionError), setup.ledger():
        setup.forward().backward()
    assert len(weight._post_accumulate_grad_hooks) == 1  # the test's own
    assert not any(p._post_accumulate_grad_hooks for p in setup.trained[1:])
    assert len(weakref.finalize._registry) == watches
    assert torch.utils._python_dispatch._get_current_dispatch_mode() is None


def test_a_finished_run_frees_its_weights(tiny, colours):
    run = lk.finetune(tiny, colours, "full", steps=3, batch_size=4, progress=False)
    weight = weakref.ref(run.model.module.model.embed_tokens.weight)
    del run
    gc.collect()
    assert weight() is None


def test_a_report_adds_up():
    report = MemoryReport(parameters=4_000_000, gradients=1_500_000, optimizer=3_000_000, activations=500_000)
    assert report.peak == 9_000_000
    assert report.megabytes() == {"parameters": 4.0, "gradients": 1.5, "optimizer": 3.0, "activations": 0.5}
