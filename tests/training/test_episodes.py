"""What an episode shows is what the first step of training draws, rewards and learns from."""

import pytest
import torch
from tiny import STRONG, tiny_model

import labkit as lk
from labkit.training import policy
from labkit.training.rl import ALGORITHMS

PROMPTS = [[5, 6], [7, 8, 9, 10], [14], [15, 16, 17]]
SMALL = {"group": 3, "prompts": 2, "max_new_tokens": 4}


@pytest.fixture
def small(tokenizer, one_thread):
    """A tiny model of 128 tokens."""
    return tiny_model("llama", tokenizer("smollm2-135m"), vocab_size=128, **STRONG)


def even(rows, replies):
    """The share of a reply's tokens that have an even number."""
    return [sum(token % 2 == 0 for token in reply.ids) / reply.tokens for reply in replies]


def ended(rows, replies):
    return [float(reply.stopped) for reply in replies]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_episodes_are_what_the_first_step_learns_from(small, monkeypatch, algorithm):
    seen = {}

    def watched(rl, now, old, advantage, *others):
        seen.setdefault("advantage", advantage)
        return rl_loss(rl, now, old, advantage, *others)

    def kept(rows, replies):
        seen["replies"] = replies
        return even(rows, replies)

    rl_loss = policy.rl_loss
    monkeypatch.setattr(policy, "rl_loss", watched)
    rl = lk.RL(algorithm, beta=0.1, **SMALL)
    run = lk.reinforce(small, PROMPTS, {kept: 2.0, ended: 0.5}, rl=rl, steps=1, seed=7, progress=False)
    learned, replies = seen["advantage"], seen["replies"]
    episodes = lk.sample_episodes(small, PROMPTS, {kept: 2.0, ended: 0.5}, rl=rl, seed=7)
    assert [each.reply.ids for each in episodes] == [reply.ids for reply in replies]
    assert [each.prompt for each in episodes] == [1, 1, 1, 2, 2, 2]
    width = max(reply.tokens for reply in replies)
    for row, episode in zip(learned.expand(6, width), episodes, strict=True):
        assert list(episode.advantages) == pytest.approx(row[: episode.reply.tokens].tolist(), abs=1e-4)
        assert len(episode.tokens) == episode.reply.tokens
        assert episode.reward == pytest.approx(2 * episode.rewards["kept"] + 0.5 * episode.rewards["ended"])
    assert sum(each.reward for each in episodes) / 6 == pytest.approx(run.history[0]["reward"])
    assert any(len(set(each.advantages)) > 1 for each in episodes) == (algorithm == "ppo")


def test_a_penalty_counts_from_the_model_before_training(small):
    rl = lk.RL("rloo", beta=1.0, **SMALL)
    tuned = lk.reinforce(
        small, PROMPTS, even, rl=rl, steps=3, learning_rate=0.02, schedule="constant", warmup=0, progress=False
    ).model
    bound, free = (lk.sample_episodes(tuned, PROMPTS, even, rl=lk.RL("rloo", beta=b, **SMALL)) for b in (1.0, 0.0))
    assert [each.reply for each in bound] == [each.reply for each in free]
    rewards = torch.tensor([each.reward for each in free]).view(2, 3)
    plain = 1.5 * (rewards - rewards.mean(1, keepdim=True))  # RLOO: n / (n - 1) times the distance from the mean
    assert [each.advantages[0] for each in free] == pytest.approx(plain.flatten().tolist(), abs=1e-5)
    assert max(abs(a.advantages[0] - b.advantages[0]) for a, b in zip(bound, free, strict=True)) > 1e-3


def test_nothing_is_changed_and_the_same_seed_gives_the_same(small):
    before = {name: tensor.clone() for name, tensor in small.module.state_dict().items()}
    torch.manual_seed(3)
    wanted = torch.rand(2)
    torch.manual_seed(3)
    one, other, third = (lk.sample_episodes(small, PROMPTS, even, rl=lk.RL(**SMALL), seed=s) for s in (1, 1, 2))
    assert torch.equal(torch.rand(2), wanted)
    assert one == other
    assert one != third
    assert all(torch.equal(tensor, before[name]) for name, tensor in small.module.state_dict().items())
    assert all(parameter.grad is None for parameter in small.module.parameters())


def test_prompts_are_shown_as_they_were_asked(tiny):
    talk = [{"from": "human", "value": "Hello"}]
    asks = (
        (["Hello"], "Hello"),
        ([talk], [{"role": "user", "content": "Hello"}]),
        ([tiny.tokenizer("Hi")["input_ids"]], "Hi"),
    )
    for prompts, asked in asks:
        rl = lk.RL(group=2, prompts=1, max_new_tokens=2)
        assert lk.sample_episodes(tiny, prompts, even, rl=rl)[0].asked == asked


def test_what_makes_no_sense_is_refused(small):
    def broken(rows, replies):
        raise ZeroDivisionError("no words")

    with pytest.raises(ZeroDivisionError):
        lk.sample_episodes(small, PROMPTS, broken, rl=lk.RL(**SMALL))
    with pytest.raises(lk.LabkitError, match="returned 1 values for 6 replies"):
        lk.sample_episodes(small, PROMPTS, lambda rows, replies: [1], rl=lk.RL(**SMALL))
    with pytest.raises(lk.LabkitError, match="rl is 'grpo'"):
        lk.sample_episodes(small, PROMPTS, even, rl="grpo")
    with pytest.raises(lk.LabkitError, match="There are no prompts"):
        lk.sample_episodes(small, [], even)
