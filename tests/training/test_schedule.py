import random
from collections import Counter
from itertools import chain

import pytest
import torch

import labkit as lk
from labkit.training.batching import Example, collate
from labkit.training.schedule import Schedule, padded_tokens, plan_batches

LENGTHS = random.Random(1).choices(range(5, 300), k=1000)


@pytest.mark.parametrize(("count", "batch_size"), [(1000, 10), (24, 8), (24, 24), (60, 4), (6, 3)])
def test_each_epoch_shows_each_example_once(count, batch_size):
    each = count // batch_size
    plan = plan_batches(LENGTHS[:count], batch_size, 3 * each, seed=0)
    for epoch in range(3):
        shown = chain.from_iterable(plan[epoch * each : (epoch + 1) * each])
        assert sorted(shown) == list(range(count))


@pytest.mark.parametrize(("count", "batch_size"), [(25, 8), (7, 16), (1, 4), (100, 16)])
def test_no_example_gets_far_ahead_of_another(count, batch_size):
    plan = plan_batches(LENGTHS[:count], batch_size, 40, seed=0)
    shown = Counter(chain.from_iterable(plan))
    assert len(plan) == 40
    assert {len(batch) for batch in plan} == {batch_size}
    assert max(shown.values()) - min(shown[i] for i in range(count)) <= 2


def test_what_makes_no_batch_is_said():
    for lengths, size in (([], 4), ([5, 5], 0), ([5], -1)):
        with pytest.raises(lk.LabkitError, match="make no batch"):
            plan_batches(lengths, size, 3, seed=0)


def test_the_order_depends_on_the_seed_alone():
    plan = plan_batches(LENGTHS, 16, 50, seed=3)
    random.seed(99)
    assert plan_batches(LENGTHS, 16, 50, seed=3) == plan
    assert plan_batches(LENGTHS, 16, 50, seed=4) != plan


def test_a_longer_run_begins_like_a_shorter_one():
    assert plan_batches(LENGTHS, 16, 90, seed=3)[:50] == plan_batches(LENGTHS, 16, 50, seed=3)


def test_epochs_differ():
    plan = plan_batches(LENGTHS[:64], 8, 16, seed=0)
    assert {frozenset(batch) for batch in plan[:8]} != {frozenset(batch) for batch in plan[8:]}


def padding(plan):
    return sum(max(LENGTHS[i] for i in batch) - LENGTHS[j] for batch in plan for j in batch)


def test_most_of_the_padding_is_saved():
    order = list(range(1000))
    random.Random(5).shuffle(order)
    unsorted = [order[i : i + 10] for i in range(0, 1000, 10)]
    assert padding(plan_batches(LENGTHS, 10, 100, seed=0)) < 0.1 * padding(unsorted)


def test_batches_do_not_come_in_order_of_length():
    widths = [max(LENGTHS[i] for i in batch) for batch in plan_batches(LENGTHS, 10, 20, seed=0)]
    assert sorted(widths) != widths != sorted(widths, reverse=True)


# The schedule of a run


def of_lengths(lengths, first=0):
    """Examples of some lengths that are told apart by their first token."""
    return [Example([first + number] + [7] * (length - 1), 1) for number, length in enumerate(lengths)]


def schedule(lengths, replay=(), **settings):
    return Schedule(of_lengths(lengths), of_lengths(replay, 5000), lk.TrainingConfig(**settings))


def numbers(batches):
    """The first tokens of all examples of some batches."""
    return [[example.tokens[0] for example in batch] for batch in batches]


def run(plan, steps):
    return [numbers(plan.batches(step)) for step in range(steps)]


def test_a_step_has_as_many_batches_as_are_accumulated():
    plan = schedule(LENGTHS[:24], steps=6, batch_size=4, accumulation=2)
    steps = run(plan, 6)
    assert [[len(batch) for batch in step] for step in steps] == [[4, 4]] * 6
    for epoch in (steps[:3], steps[3:]):
        assert sorted(chain.from_iterable(chain.from_iterable(epoch))) == list(range(24))


def test_a_step_can_be_asked_for_at_any_time():
    plan = schedule(LENGTHS[:50], LENGTHS[:20], steps=12, batch_size=4, replay_every=3)
    steps = run(plan, 12)
    for step in (11, 2, 7, 2, 0):
        assert numbers(plan.batches(step)) == steps[step]


def test_a_schedule_depends_on_the_seed_alone():
    def made(seed):
        return run(schedule(LENGTHS[:50], LENGTHS[:20], steps=12, batch_size=4, replay_every=3, seed=seed), 12)

    first = made(3)
    random.seed(99)
    assert made(3) == first
    assert made(4) != first


@pytest.mark.parametrize("every", [2, 3, 5])
def test_every_few_steps_are_made_on_the_replay_text(every):
    plan = schedule(LENGTHS[:40], LENGTHS[:20], steps=12, batch_size=4, accumulation=2, replay_every=every)
    plain = schedule(LENGTHS[:40], steps=12, batch_size=4, accumulation=2, replay_every=every)
    for step, (batches, without) in enumerate(zip(run(plan, 12), run(plain, 12), strict=True), 1):
        if step % every:
            assert batches == without
        else:
            assert all(5000 <= number < 5020 for batch in batches for number in batch)
            assert [len(batch) for batch in batches] == [4, 4]


def test_padded_tokens_are_those_of_the_rectangle():
    for lengths in ([5], [3, 3, 3], [2, 9, 4], LENGTHS[:16]):
        examples = of_lengths(lengths)
        batch = collate(examples, 2, torch.device("cpu"))
        assert padded_tokens(examples) == batch.input_ids.numel() == len(lengths) * max(lengths)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("settings", [{}, {"accumulation": 3}, {"replay_every": 2}])
def test_the_largest_step_is_the_one_with_the_largest_batch(seed, settings):
    replay = LENGTHS[200:260] if "replay_every" in settings else ()
    plan = schedule(LENGTHS[:150], replay, steps=20, batch_size=4, seed=seed, **settings)
    sizes = [
        max(collate(batch, 2, torch.device("cpu")).input_ids.numel() for batch in plan.batches(step))
        for step in range(20)
    ]
    for start in (-1, 0, 7, 18):
        assert sizes.index(max(sizes[start + 1 :]), start + 1) in plan.largest(start)
    assert plan.largest() == plan.largest(0)
    assert padded_tokens(plan.largest_batches()[0]) == max(sizes[1:])


def test_a_step_with_more_to_learn_counts_as_large_though_it_is_shorter():
    long, much = [Example([1] * 30, 2)] * 8, [Example([1] * 20, 19)] * 8
    plan = Schedule(long, much, lk.TrainingConfig(steps=8, batch_size=4, replay_every=3))
    assert plan.largest() == [1, 2]
    assert plan.largest_batches() == [long[:4], much[:4]]


def test_the_first_step_is_the_largest_only_where_there_is_no_other():
    for steps, start, expected in [(1, 0, 0), (2, 0, 1), (5, 4, 4), (5, 5, 4)]:
        assert schedule([5, 5, 5, 5], steps=steps, batch_size=4).largest(start) == [expected]


def test_many_batches_make_no_large_step():
    # Two batches of a step are not in memory at once: what counts is the largest of them.
    replay, task = [30, 30], [20, 20]
    plan = schedule(task, replay, steps=6, batch_size=2, accumulation=2, replay_every=4)
    assert plan.largest() == [3]
    assert [padded_tokens(batch) for batch in plan.largest_batches()] == [60]
