import gc

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile, record_function

import labkit as lk
from labkit.memory import Ledger
from labkit.memory.events import Event
from labkit.memory.recorder import Recorder, can_record
from labkit.training import loop
from labkit.training.batching import Example
from labkit.training.loop import Trainer

CPU = torch.device("cpu")


def recorded(action, device=CPU):
    """Return the events of an action, which is called with the recorder's ``mark``."""
    gc.collect()
    recorder = Recorder(device)
    recorder.start()
    try:
        action(recorder.mark)
    finally:
        events = recorder.stop()
    return events


def mark_of(name):
    return Event("phase", name=name)


def sizes(events):
    """Return the bytes of each allocation, and as negative numbers those of each release."""
    signs = {"alloc": 1, "free": -1}
    return [signs[event.what] * event.size for event in events if event.what in signs]


class Step:
    """A training step of a small network with a shared hidden state and an optimizer whose states exist."""

    def __init__(self):
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(30, 40), nn.GELU(), nn.Linear(40, 30, bias=False), nn.LayerNorm(30))
        self.optimizer = torch.optim.AdamW(self.net.parameters(), lr=1e-3, fused=True)
        self.x = torch.randn(50, 30)
        self()

    def __call__(self):
        hidden = self.net(self.x)
        loss = (hidden + self.net(hidden)).square().mean()
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return loss.item()


def test_this_torch_lets_us_record():
    # If this fails, private parts of torch have changed: see labkit/memory/recorder.py.
    assert can_record()


def test_marks_and_allocations_come_in_order_with_exact_sizes():
    where = []

    def action(mark):
        mark(mark_of("first"))
        x = torch.empty(1000)
        where.append(x.untyped_storage().data_ptr())
        mark(mark_of("second"))
        y = torch.empty(10, dtype=torch.uint8)
        where.append(y.untyped_storage().data_ptr())
        del x
        mark(mark_of("third"))

    first, second = Event("alloc", 0, 4000), Event("alloc", 0, 10)
    events = recorded(action)
    assert events == [
        mark_of("first"),
        first._replace(address=where[0]),
        mark_of("second"),
        second._replace(address=where[1]),
        first._replace(what="free", address=where[0]),
        mark_of("third"),
        second._replace(what="free", address=where[1]),
    ]


def test_a_mark_comes_back_as_it_was():
    for event in [
        Event("enter", name=""),
        Event("exit", name="model.layers.0.self_attn"),
        Event("phase", name="update"),
        Event("block", name="forward model.layers.0"),
        Event("gradient", 2**46 + 5, name="a:strange::name"),
    ]:
        assert recorded(lambda mark, event=event: mark(event)) == [event]


def test_what_happens_inside_others_ranges_is_in_order_too():
    def action(mark):
        mark(mark_of("before"))
        with record_function("somebody's own range"):
            x = torch.empty(8)
            mark(mark_of("inside"))
            with record_function("an inner one"):
                del x
        mark(mark_of("after"))
        torch.empty(2)

    names = [event.name or event.what for event in recorded(action)]
    assert names == ["before", "alloc", "inside", "free", "after", "alloc", "free"]


def test_scratch_memory_inside_an_operator_is_recorded():
    wide, narrow = torch.zeros(100), torch.zeros(100, dtype=torch.bfloat16)
    assert sizes(recorded(lambda mark: torch.add(wide, wide))) == [400, -400]
    found = sizes(recorded(lambda mark: torch.add(wide, narrow)))
    assert sorted(found) == [-400, -400, 400, 400]  # the sum, and a copy of the narrow one in 32 bits


def test_a_step_frees_what_it_allocates():
    step, live = Step(), {}
    events = recorded(lambda mark: step())
    for event in events:
        if event.what == "alloc":
            assert event.address not in live
            live[event.address] = event.size
        else:
            assert live.pop(event.address) == event.size
    assert live == {}
    assert len(events) > 50


def test_the_events_are_those_of_the_public_profiler():
    step = Step()
    found = sizes(recorded(lambda mark: step()))
    gc.collect()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        step()
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    assert found == [event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())]


def test_it_can_be_started_again():
    one = recorded(lambda mark: (mark(mark_of("one")), torch.empty(10)))
    two = recorded(lambda mark: (mark(mark_of("two")), torch.empty(20)))
    assert (sizes(one), sizes(two)) == ([40, -40], [80, -80])
    assert (one[0], two[0]) == (mark_of("one"), mark_of("two"))
    assert recorded(lambda mark: None) == []


def test_marks_outside_are_of_no_effect():
    Recorder(CPU).mark(mark_of("too early"))
    assert recorded(lambda mark: None) == []


def test_memory_of_other_devices_is_left_out():
    events = recorded(lambda mark: (mark(mark_of("one")), torch.empty(10)), torch.device("meta"))
    assert events == [mark_of("one")]


def test_recording_changes_no_bit():
    plain, watched = Step(), Step()
    expected = [plain() for _ in range(3)]
    losses = []
    recorded(lambda mark: losses.extend(watched() for _ in range(3)))
    assert losses == expected
    for one, two in zip(plain.net.parameters(), watched.net.parameters(), strict=True):
        assert torch.equal(one, two)


def test_nothing_is_printed(capfd):
    step = Step()
    for _ in range(2):
        recorded(lambda mark: step())
        with Ledger(step.net, step.optimizer):
            step()
    assert capfd.readouterr() == ("", "")


EXAMPLES = [Example([5, 6, 7, token], 2) for token in range(100, 120)]


def test_a_run_is_measured_without_a_word(tiny, capfd):
    gc.collect()  # torch warns of memory that is older than the recording and is freed in it
    trainer = Trainer(tiny, EXAMPLES, lk.TrainingConfig(steps=3, batch_size=4))
    trainer.run()
    assert trainer.memory.peak > 0
    assert capfd.readouterr() == ("", "")


def test_without_a_recorder_a_run_is_the_same_but_for_its_memory(tiny, monkeypatch):
    other = tiny.copy(share_weights=False)
    config = lk.TrainingConfig(steps=3, batch_size=4)
    measured = Trainer(tiny, EXAMPLES, config)
    measured.run()
    monkeypatch.setattr(loop, "can_record", lambda: False)
    monkeypatch.setattr(loop, "Ledger", None)  # not to be used
    plain = Trainer(other, EXAMPLES, config)
    plain.run()
    assert plain.memory is None
    assert measured.memory.peak > 0
    assert [row["loss"] for row in plain.history] == [row["loss"] for row in measured.history]
    for one, two in zip(tiny.parameters(), other.parameters(), strict=True):
        assert torch.equal(one, two)


def test_a_run_inside_somebody_elses_profiler_leaves_it_alone(tiny, capfd):
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        assert not can_record()
        trainer = Trainer(tiny, EXAMPLES, lk.TrainingConfig(steps=2, batch_size=4))
        trainer.run()
    assert can_record()
    assert trainer.memory is None
    assert "aten::linear" in {event.key for event in profiler.key_averages()}
    assert capfd.readouterr() == ("", "")
