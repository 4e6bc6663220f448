"""Learning from rewards, from the first step to a resumed run."""

import math
from dataclasses import replace

import pytest
import torch
from quick_runs import equal, state
from tiny import STRONG, tiny_model

import labkit as lk
from labkit.training import policy
from labkit.training.credit import drawn_at
from labkit.training.rewards import RewardError
from labkit.training.rl import ALGORITHMS

PROMPTS = [[5, 6], [7, 8, 9, 10], [14], [15, 16, 17]]
SMALL = {"group": 6, "prompts": 2, "max_new_tokens": 5}
QUICK = {"steps": 4, "learning_rate": 2e-2, "batch_size": 12, "schedule": "constant", "warmup": 0, "progress": False}


@pytest.fixture
def small(tokenizer, one_thread):
    """A tiny model of 128 tokens."""
    return tiny_model("llama", tokenizer("smollm2-135m"), vocab_size=128, **STRONG)


def even(rows, replies):
    """The share of a reply's tokens that have an even number."""
    return [sum(token % 2 == 0 for token in reply.ids) / reply.tokens for reply in replies]


def learn(model, rewards=even, rl=None, **settings):
    chosen = lk.RL(**SMALL | (rl or {}))
    return lk.reinforce(model, PROMPTS, rewards, rl=chosen, **QUICK | settings)


def column(run, name):
    return [record[name] for record in run.history]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_rewards_rise(small, algorithm):
    before = state(small)
    run = learn(small, rl={"algorithm": algorithm, "prompts": 4}, steps=30)
    rewards = column(run, "reward")
    assert sum(rewards[-8:]) / 8 > sum(rewards[:8]) / 8 + 0.15
    assert equal(state(small), before)
    assert max(column(run, "mismatch")) < 1e-4
    assert not any(column(run, "clipped"))
    assert column(run, "kl")[0] == pytest.approx(0, abs=1e-6)
    assert min(column(run, "kl")) > -1e-6
    assert column(run, "kl")[-1] > 0.01
    assert run.rl.algorithm == algorithm
    assert not run.model.module.training


def test_what_is_recorded_of_a_step(small):
    seen = []

    def known(rows, replies):
        seen.append((rows, replies))
        return [float(i // 6) for i in range(12)]  # no variance within the groups

    run = learn(small, {known: 2.0, even: 0.0}, steps=1)
    ((rows, replies),), (record,) = seen, run.history
    assert [row["prompt"] for row in rows] == [rows[0]["prompt"]] * 6 + [rows[6]["prompt"]] * 6
    assert (record["reward"], record["reward_known"], record["flat"]) == (1.0, 0.5, 1.0)
    assert record["reward_std"] == pytest.approx(torch.tensor([0.0, 2.0] * 6).std().item())
    assert record["reward_even"] == pytest.approx(sum(even(rows, replies)) / 12)
    assert record["length"] == sum(reply.tokens for reply in replies) / 12
    assert record["ended"] == sum(reply.stopped for reply in replies) / 12
    assert record["grad_norm"] == pytest.approx(0, abs=1e-6)  # all advantages are 0
    assert 0 < record["entropy"] <= math.log(128)


def test_later_updates_are_off_policy(small):
    one, three = (learn(small, rl={"updates": updates}, steps=3) for updates in (1, 3))
    assert not any(column(one, "clipped"))
    assert max(column(three, "clipped")) > 0.01
    assert max(column(three, "mismatch")) < 1e-4  # before the first update


@pytest.mark.parametrize("algorithm", ["grpo", "rloo"])
def test_nothing_is_clipped_since_drawing_rounds_otherwise(small, monkeypatch, algorithm):
    def rounded(*given):
        samples = drawn_at(*given)
        noise = torch.randn(samples.old.shape, generator=torch.Generator().manual_seed(0))
        return replace(samples, old=samples.old + 0.3 * noise * samples.mask)

    exact = learn(small, rl={"algorithm": algorithm}, steps=2)
    monkeypatch.setattr(policy, "drawn_at", rounded)
    rough = learn(small, rl={"algorithm": algorithm}, steps=2)
    assert min(column(rough, "mismatch")) > 0.2
    assert not any(column(rough, "clipped"))
    assert equal(exact.model.trainable(), rough.model.trainable())


def test_a_penalty_keeps_the_policy_near_its_reference(small):
    for algorithm in ("grpo", "rloo", "ppo"):
        free, bound = (learn(small, rl={"algorithm": algorithm, "beta": beta}, steps=10) for beta in (0, 2.0))
        assert sum(column(bound, "kl")[-3:]) < 0.7 * sum(column(free, "kl")[-3:])


def test_the_size_of_a_forward_pass_changes_rounding_only(small):
    whole, parts = (learn(small, rl={"beta": 0.1}, steps=2, batch_size=size) for size in (12, 5))
    for a, b in zip(whole.model.trainable().values(), parts.model.trainable().values(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-3, rtol=1e-3)  # AdamW turns rounding into steps
    for a, b in zip(whole.history, parts.history, strict=True):
        for name in ("loss", "grad_norm", "kl", "entropy", "reward"):
            assert a[name] == pytest.approx(b[name], abs=1e-4)


@pytest.mark.parametrize("algorithm", ["grpo", "ppo"])
def test_a_stopped_run_resumes_bit_for_bit(small, tmp_path, algorithm):
    rl = {"algorithm": algorithm, "updates": 2, "beta": 0.1, "sampling": lk.Sampling(0.9, top_k=40, top_p=0.95)}
    whole = learn(small, rl=rl, steps=5)

    def stop(model, record, last):
        if record["step"] == 3:
            raise KeyboardInterrupt

    kept = {"checkpoints": tmp_path, "checkpoint_every": 2, "steps": 5}
    with pytest.raises(KeyboardInterrupt) as caught:
        learn(small, rl=rl, callbacks=[stop], **kept)
    assert len(caught.value.run.history) == 3
    torch.rand(3)  # the caller's random numbers don't matter
    resumed = learn(small, rl=rl, resume=True, **kept)
    assert equal(state(resumed.model), state(whole.model))
    without = [[{**record, "seconds": 0} for record in run.history] for run in (resumed, whole)]
    assert without[0] == without[1]
    with pytest.raises(lk.LabkitError, match=r"belongs to another run \(rl: beta 0.1 there and 0.2 here"):
        learn(small, rl=rl | {"beta": 0.2}, resume=True, **kept)


def fails(kind):
    def reward(rows, replies):
        if kind == "raises":
            raise ZeroDivisionError("no words")
        return {"nan": [math.nan] * len(replies), "short": [1.0], "none": None, "text": ["good"] * len(replies)}[kind]

    return reward


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("raises", "ZeroDivisionError: no words"),
        ("nan", "The reward reward gave reply 1 nan"),
        ("short", "The reward reward returned 1 values for 12 replies"),
        ("none", "The reward reward returned None for 12 replies"),
        ("text", "The reward reward gave reply 1 'good'"),
    ],
)
def test_a_reward_that_fails_costs_its_step_and_too_many_the_run(small, kind, said):
    broken = fails(kind)

    def reward(rows, replies):
        reward.calls += 1
        return broken(rows, replies) if reward.calls == 2 else even(rows, replies)

    reward.calls = 0
    weights = []
    watch = [lambda model, record, last: weights.append(state(model)) and None]
    run = learn(small, reward, rl={"max_failures": 1}, callbacks=watch)
    assert [said in record.get("skipped", "") for record in run.history] == [False, True, False, False]
    assert equal(weights[0], weights[1])
    assert not equal(weights[1], weights[2])
    with pytest.raises(RewardError, match=r"stopped at step 3: rewards failed at 3 of its steps") as caught:
        learn(small, broken, rl={"max_failures": 2})
    assert said in str(caught.value)
    assert len(caught.value.run.history) == 2
    cause = caught.value.__cause__
    assert isinstance(cause, ZeroDivisionError if kind == "raises" else lk.LabkitError)
    assert cause.__traceback__ is not None


@pytest.mark.parametrize("algorithm", ["grpo", "ppo"])
def test_it_works_in_16_bits_too(small, algorithm):
    small.precision = torch.bfloat16
    run = learn(small, rl={"algorithm": algorithm, "updates": 2, "sampling": lk.Sampling(0.9, top_k=20, top_p=0.9)})
    assert all(math.isfinite(value) for record in run.history for value in record.values())
    assert max(column(run, "mismatch")) < 0.05


def test_rewards_see_the_rows_of_a_task(tiny, colours):
    asked = {row["prompt"]: row["completion"] for row in colours.train}

    def right(rows, replies):
        assert all(asked[row["prompt"]] == row["completion"] for row in rows)
        return [row["completion"] in reply.text for row, reply in zip(rows, replies, strict=True)]

    run = lk.reinforce(tiny, colours, [right], rl=lk.RL(**SMALL), **QUICK | {"steps": 1})
    assert run.task == colours.name
    assert "skipped" not in run.history[0]


def test_a_saved_run_knows_how_it_learned(small, tmp_path):
    run = learn(small, rl={"algorithm": "ppo", "sampling": lk.Sampling(0.5, top_k=9)}, steps=1)
    run.save(tmp_path / "run")
    loaded = lk.load_run(tmp_path / "run", small)
    assert loaded.rl == run.rl
    assert equal(state(loaded.model), state(run.model))


def test_full_fine_tuning_learns_without_a_reference(small):
    run = lk.reinforce(small, PROMPTS, even, "full", rl=lk.RL(**SMALL), **QUICK | {"learning_rate": 1e-3})
    assert "kl" not in run.history[0]
    with pytest.raises(lk.LabkitError, match="With full, no reference is left"):
        lk.reinforce(small, PROMPTS, even, "full", rl=lk.RL(beta=0.1), **QUICK)


def test_what_makes_no_sense_is_refused(small, tiny_encoder):
    for given, said in (
        ({"packing": True}, "packing=True doesn't go with rewards"),
        ({"accumulation": 2}, "accumulation=2 doesn't go"),
        ({"resume": True}, "resume=True needs the folder"),
        ({"steps": 0}, "steps must be"),
    ):
        with pytest.raises(lk.LabkitError, match=said):
            learn(small, **given)
    for rewards, said in (
        (3, "3 is no reward"),
        ([], "There is no reward"),
        ({even: "much"}, "The weight of even must"),
    ):
        with pytest.raises(lk.LabkitError, match=said):
            learn(small, rewards)
    with pytest.raises(lk.LabkitError, match="Two rewards have the same name"):
        learn(small, [fails("nan"), fails("short")])
    with pytest.raises(lk.LabkitError, match="is an encoder"):
        learn(tiny_encoder)
    for prompts in ([], "text", 3):
        with pytest.raises(lk.LabkitError, match=r"no prompts"):
            lk.reinforce(small, prompts, even, **QUICK)
    with pytest.raises(lk.LabkitError, match="rl is 'grpo'"):
        lk.reinforce(small, PROMPTS, even, rl="grpo", **QUICK)
    with pytest.raises(lk.LabkitError, match="room for"):
        learn(small, rl={"max_new_tokens": 600})
