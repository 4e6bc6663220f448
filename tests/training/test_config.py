import pytest
import torch
from transformers import get_scheduler

import labkit as lk
from labkit.training.config import OPTIMIZERS, SCHEDULES, TrainingConfig


def test_a_schedule_with_a_typo_gets_the_nearest_name():
    with pytest.raises(lk.LabkitError, match=r"no schedule called 'cosin'.*\n.*'cosine'.*constant, cosine, linear"):
        TrainingConfig(schedule="cosin")


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimizer_can_be_chosen(optimizer):
    # Whether the computer has what a paged one needs is known only where the model is.
    assert TrainingConfig(optimizer=optimizer).optimizer == optimizer


@pytest.mark.parametrize(("name", "near"), [("adam", "adamw"), ("paged_adam", "paged_adamw")])
def test_an_optimizer_with_a_typo_gets_the_nearest_name(name, near):
    with pytest.raises(lk.LabkitError, match=rf"no optimizer called '{name}'.*\n.*'{near}'.*adamw, paged_adamw"):
        TrainingConfig(optimizer=name)


def test_limits_are_allowed():
    config = TrainingConfig(steps=1, batch_size=1, warmup=0, weight_decay=0, replay_every=2)
    assert config.rate_at(0) == config.learning_rate


def reference(schedule, steps, warm):
    """The rates of transformers' scheduler, with a warm-up that starts at 1/warm of the rate and not at 0."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=3e-4)
    name = "constant_with_warmup" if schedule == "constant" else schedule
    scheduler = get_scheduler(name, optimizer, num_warmup_steps=warm, num_training_steps=steps)
    rates = []
    for _ in range(steps + 1):
        rates.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    return [rates[step + 1] if step < warm else rates[step] for step in range(steps)]


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize(("steps", "warmup", "warm"), [(60, 0.1, 6), (20, 0.25, 5), (30, 0.0, 0)])
def test_rates_are_those_of_transformers(schedule, steps, warmup, warm):
    config = TrainingConfig(steps=steps, learning_rate=3e-4, warmup=warmup, schedule=schedule)
    rates = [config.rate_at(step) for step in range(steps)]
    assert rates == pytest.approx(reference(schedule, steps, warm), rel=1e-9)


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_the_rate_climbs_to_the_learning_rate_and_falls_to_almost_0(schedule):
    config = TrainingConfig(steps=100, learning_rate=1e-3, warmup=0.1, schedule=schedule)
    rates = [config.rate_at(step) for step in range(100)]
    top = rates.index(max(rates))
    assert top == 9
    assert rates[top] == 1e-3
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert 0 < rates[-1] < 0.02 * 1e-3


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("steps", [1, 2, 3, 7])
@pytest.mark.parametrize("warmup", [0, 0.1, 0.5, 0.99])
def test_no_step_is_wasted_on_a_rate_of_0(schedule, steps, warmup):
    config = TrainingConfig(steps=steps, learning_rate=1e-3, warmup=warmup, schedule=schedule)
    assert all(0 < config.rate_at(step) <= 1e-3 for step in range(steps))


def test_packing_and_what_is_learned_of_a_conversation_are_checked():
    for packing in (1, "yes", None):
        with pytest.raises(lk.LabkitError, match="packing must be True or False"):
            lk.TrainingConfig(packing=packing)
    for learn in ("first", None, True):
        with pytest.raises(lk.LabkitError, match="part of a conversation to learn"):
            lk.TrainingConfig(learn=learn)
