import random

import pytest
from streams import WEIGHT, alloc, forward, free, kinds, parts, phase, report, total

from labkit.memory import KINDS
from labkit.memory.attribution import attribute
from labkit.memory.events import SCRATCH, Held
from labkit.memory.trace import MOMENTS


def test_the_resident_memory_is_passed_on():
    assert attribute({}, [], {}).report(resident=5).resident == 5
    assert attribute({}, [], {}).report().resident == 0


def pages(size):
    return -(-size // 512) * 512


def test_a_rounded_trace_has_other_sizes_and_the_old_one_keeps_its_own():
    events = [*forward(alloc(1, 1), alloc(2, 512), free(2)), phase("loss")]
    trace = attribute({WEIGHT: Held(513, "frozen", "a")}, events, {})
    other = trace.rounded(pages)
    assert parts(other.report()) == {"frozen": 1024, "activations": 512, "temporaries": 512}
    assert other.report().modules == {"a": 1024, "": 1024}
    assert parts(trace.report()) == {"frozen": 513, "activations": 1, "temporaries": 512}


def test_scratch_memory_is_temporary_and_a_gpu_needs_none():
    events = forward(alloc(1, 10), alloc(SCRATCH, 40), alloc(2, 20), free(SCRATCH), alloc(SCRATCH, 3), free(SCRATCH))
    trace = attribute({}, [*events, phase("loss")], {})
    assert parts(trace.report()) == {"activations": 30, "temporaries": 40}
    assert parts(trace.rounded(lambda size: size).report()) == {"activations": 30}


def test_the_highest_moment_of_each_stage():
    events = [alloc(1, 10), free(1), alloc(2, 5), *forward(alloc(3, 7), free(3), free(2)), phase("update"), alloc(4, 2)]
    trace = attribute({WEIGHT: Held(100, "frozen")}, events, {})
    starts = [("before", 0)] + [(name, at) for _, name, at in trace.marks]
    assert starts == [("before", 0), ("forward", 4), ("update", 7)]
    assert {stage: kinds(moment) for stage, moment in trace.highest(starts).items()} == {
        "before": {"frozen": 100, "temporaries": 10},
        "forward": {"frozen": 100, "temporaries": 12},
        "update": {"frozen": 100, "temporaries": 2},
    }


def test_a_stage_includes_the_moment_at_which_it_begins():
    trace = attribute({}, [alloc(1, 10), free(1), alloc(2, 3)], {})
    highest = trace.highest([("first", 0), ("second", 1), ("third", 2)])
    assert {stage: total(moment) for stage, moment in highest.items()} == {"first": 10, "second": 10, "third": 3}


def test_a_stage_without_moves_has_what_is_there():
    trace = attribute({}, [alloc(1, 10), free(1), alloc(2, 3)], {})
    highest = trace.highest([("first", 0), ("empty", 2), ("last", 2)])
    assert {stage: total(moment) for stage, moment in highest.items()} == {"first": 10, "empty": 0, "last": 3}


def test_a_stage_that_comes_several_times_has_one_highest_moment():
    events = [alloc(1, 10), free(1), alloc(2, 20), free(2), alloc(3, 15), free(3), alloc(4, 1)]
    highest = attribute({}, events, {}).highest([("a", 0), ("b", 2), ("a", 4), ("b", 6)])
    assert {stage: total(moment) for stage, moment in highest.items()} == {"a": 15, "b": 20}


def made_up(count, seed):
    """A random stream of allocations and releases with phases between, and the total after each of them."""
    rng = random.Random(seed)
    begin = {count // 10: "forward", count // 2: "loss", count * 3 // 5: "backward", count * 9 // 10: "update"}
    live, events, totals = {}, [], [0]
    for number in range(count):
        if number in begin:
            events.append(phase(begin[number]))
        if live and rng.random() < 0.45:
            address = rng.choice(list(live))
            events.append(free(address))
            totals.append(totals[-1] - live.pop(address))
        else:
            address, size = rng.randrange(count), rng.randint(1, 1000)
            while address in live:
                address = rng.randrange(count)
            live[address] = size
            events.append(alloc(address, size))
            totals.append(totals[-1] + size)
    return events, totals


def test_the_timeline_of_a_long_step_is_short_and_keeps_the_peak():
    for count in [100, MOMENTS - 2, MOMENTS - 1, MOMENTS, 3 * MOMENTS + 7]:
        events, totals = made_up(count, seed=count)
        found = report(events)
        assert found.peak == max(totals)
        if len(totals) <= MOMENTS:
            assert [total(moment) for moment in found.timeline] == totals
        else:
            assert MOMENTS / 2 < len(found.timeline) <= MOMENTS
        assert max(total(moment) for moment in found.timeline) == found.peak
        assert tuple(getattr(found, kind) for kind in KINDS) in found.timeline
        assert min(min(moment) for moment in found.timeline) >= 0
        assert sum(found.modules.values()) == found.peak
        assert list(found.phases) == ["forward", "loss", "backward", "update"]
        shares = [at / len(found.timeline) for at in found.phases.values()]
        assert shares == pytest.approx([0.1, 0.5, 0.6, 0.9], abs=0.02)


def test_a_spike_in_a_long_step_is_not_thinned_away():
    quiet = [event for _ in range(3 * MOMENTS) for event in (alloc(1, 1), free(1))]
    found = report([*quiet, alloc(2, 10**9), free(2), *quiet])
    assert found.peak == 10**9
    assert len(found.timeline) <= MOMENTS


def test_the_stages_of_a_random_step():
    for seed in range(5):
        events, totals = made_up(300, seed)
        trace = attribute({}, events, {})
        cuts = sorted(random.Random(seed).sample(range(300), 5))
        starts = [("a", 0), *zip("bcabc", cuts, strict=True)]
        expected = dict.fromkeys("abc", 0)
        for (stage, start), end in zip(starts, [*cuts, 300], strict=True):
            expected[stage] = max(expected[stage], *totals[start : end + 1])
        assert {stage: total(moment) for stage, moment in trace.highest(starts).items()} == expected
