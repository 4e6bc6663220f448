"""Advantages, losses and gradients are those of TRL on the same samples."""

import pytest
import torch
from datasets import Dataset

import labkit as lk
from labkit.training.ppo import Value, gae, token_rewards, value_loss, whitened
from labkit.training.rl import RL, advantages, flat_groups, rl_loss, token_weights

trl = pytest.importorskip("trl")
GROUPS, SIZE, MOST, TEMPERATURE = 3, 4, 6, 0.7
REWARDS = torch.tensor([[1.0, 0.0, 0.0, 0.5], [1.0, 1.0, 1.0, 1.0], [0.0, -2.0, 0.25, 3.0]])
# TRL's settings, and ours that mean the same.
GRPO = [
    ({"loss_type": "grpo"}, {}),
    ({"loss_type": "grpo", "beta": 0.3}, {"beta": 0.3}),
    ({"loss_type": "grpo", "scale_rewards": "none"}, {"std": False}),
    ({"loss_type": "bnpo", "beta": 0.3}, {"length": "token", "beta": 0.3}),
    ({"loss_type": "dr_grpo", "scale_rewards": "none"}, {"algorithm": "dr_grpo"}),
    ({"loss_type": "dr_grpo", "scale_rewards": "none", "beta": 0.3}, {"algorithm": "dr_grpo", "beta": 0.3}),
]
RLOO = [
    ({"beta": 0.0}, {}),
    ({"beta": 0.3}, {"beta": 0.3}),
    ({"beta": 0.3, "normalize_advantages": True}, {"beta": 0.3, "std": True}),
]


def samples():
    """Replies of 1 to 6 random tokens to prompts of 2 to 5, as TRL pads them."""
    draw = torch.Generator().manual_seed(3)
    count = GROUPS * SIZE
    lengths, starts = torch.arange(count) % MOST + 1, torch.arange(count) // SIZE + 3
    tokens = torch.randint(20, 1000, (count, 5 + MOST), generator=draw)
    return {
        "prompt_ids": tokens[:, :5],
        "prompt_mask": (torch.arange(5) >= 5 - starts[:, None]).long(),
        "completion_ids": tokens[:, 5:],
        "completion_mask": (torch.arange(MOST) < lengths[:, None]).long(),
    }


@pytest.fixture
def trainer(tiny, tmp_path):
    """Makes trainers of TRL for a tiny model, whose rewards are given."""

    def make(kind, **settings):
        tiny.module.save_pretrained(tmp_path / "reference")  # TRL loads it from there
        tiny.module.config._name_or_path = str(tmp_path / "reference")
        tiny.module.train()
        config = getattr(trl, f"{kind}Config")(
            tmp_path,
            use_cpu=True,
            report_to="none",
            bf16=False,
            per_device_train_batch_size=GROUPS * SIZE,
            num_generations=SIZE,
            max_completion_length=MOST,
            temperature=TEMPERATURE,
            **{"beta": 0.0} | settings,
        )
        data = Dataset.from_list([{"prompt": f"Say {word}"} for word in ("one", "a longer thing", "two")])
        made = getattr(trl, f"{kind}Trainer")(
            tiny.module, lambda prompts, **_: REWARDS.flatten().tolist(), config, data, processing_class=tiny.tokenizer
        )
        made.current_gradient_accumulation_steps = 1  # as its loop sets it
        return made

    return make


def log_probabilities(module, given, width=5):
    """Of each token of the replies, (samples, tokens), 0 for padding."""
    ids = torch.cat([given["prompt_ids"], given["completion_ids"]], 1)
    mask = torch.cat([given["prompt_mask"], given["completion_mask"]], 1)
    logits = module(input_ids=ids, attention_mask=mask).logits[:, width - 1 : -1] / TEMPERATURE
    found = logits.log_softmax(-1).gather(2, given["completion_ids"][..., None])[..., 0]
    return found * given["completion_mask"]


def gradients(module, loss):
    module.zero_grad()
    loss.backward()
    return torch.cat([p.grad.flatten() for p in module.parameters() if p.grad is not None])


def require_same(ours, theirs, module):
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    expected = gradients(module, theirs)
    assert expected.abs().max() > 1e-3
    torch.testing.assert_close(gradients(module, ours), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("theirs", "ours"), GRPO)
def test_losses_and_gradients_are_those_of_trls_grpo(trainer, tiny, theirs, ours):
    made, rl, given = trainer("GRPO", **theirs), RL(max_new_tokens=MOST, **ours), samples()
    draw, module = torch.Generator().manual_seed(4), tiny.module
    policy = log_probabilities(module, given)
    mask = given["completion_mask"]
    old, reference = (policy.detach() + torch.randn(policy.shape, generator=draw) * 0.3 * mask for _ in range(2))
    advantage = torch.randn(len(mask), generator=draw)
    given |= {"old_per_token_logps": old, "ref_per_token_logps": reference, "advantages": advantage}
    loss, watched = rl_loss(rl, policy, old, advantage[:, None], token_weights(rl, mask), reference)
    require_same(loss, made.compute_loss(module, given), module)
    seen = made._metrics["train"]
    for name, key in ({"clipped": "clip_ratio/region_mean"} | ({"kl": "kl"} if rl.beta else {})).items():
        mean = (watched[name] * mask).sum() / mask.sum()
        assert mean > 0.01
        assert mean.item() == pytest.approx(seen[key][0], abs=1e-5)


@pytest.mark.parametrize(("theirs", "ours"), RLOO)
def test_losses_and_gradients_are_those_of_trls_rloo(trainer, tiny, theirs, ours):
    made, rl, given = trainer("RLOO", **theirs), RL("rloo", **ours), samples()
    draw, module = torch.Generator().manual_seed(4), tiny.module
    policy, mask = log_probabilities(module, given), given["completion_mask"]
    old = policy.detach() + torch.randn(policy.shape, generator=draw) * 0.2 * mask
    advantage = torch.randn(len(mask), generator=draw)
    given |= {"old_logps": old.sum(1), "advantages": advantage}
    loss, watched = rl_loss(rl, policy, old, advantage[:, None], token_weights(rl, mask), old)
    require_same(loss, made.compute_loss(module, given), module)
    expected = made._metrics["train"]["clip_ratio/region_mean"][0]
    assert 0 < watched["clipped"][:, 0].mean().item() == pytest.approx(expected)


@pytest.mark.parametrize(
    ("kind", "theirs", "ours"), [("GRPO", *each) for each in GRPO] + [("RLOO", *each) for each in RLOO]
)
def test_advantages_are_those_of_trl(trainer, tiny, kind, theirs, ours):
    made, rl = trainer(kind, **theirs), RL(**{"algorithm": kind.lower()} | ours)
    with torch.no_grad():  # a reference that differs
        tiny.module.lm_head.weight.mul_(1.1)
    prompts = [{"prompt": f"Say {word}"} for word in ("one", "a longer thing", "two") for _ in range(SIZE)]
    found = made._generate_and_score_completions(prompts)
    rewards = REWARDS.clone()
    if rl.penalty == "reward" and rl.beta:
        width, mask = found["prompt_ids"].shape[1], found["completion_mask"]
        with torch.no_grad():
            policy, reference = (log_probabilities(module, found, width) for module in (made.model, made.ref_model))
        rewards = rewards - rl.beta * ((policy - reference) * mask).sum(1).view(GROUPS, SIZE)
    torch.testing.assert_close(advantages(rl, rewards)[:, 0], found["advantages"], atol=1e-5, rtol=1e-5)
    assert found["advantages"].abs().max() > 0.1
    assert made._metrics["train"]["frac_reward_zero_std"][0] == pytest.approx(flat_groups(rewards))


def test_reinforce_follows_the_gradient_of_the_expected_reward(tiny):
    """All replies of one token: the expected reward and its gradient can be computed without drawing."""
    logits = torch.randn(5, generator=torch.Generator().manual_seed(0), requires_grad=True)
    prices = torch.tensor([0.0, 1.0, -1.0, 3.0, 0.5])
    (expected,) = torch.autograd.grad((logits.softmax(0) * prices).sum(), logits)
    counts = (logits.softmax(0) * 20000).round().long().tolist()
    drawn = torch.tensor([token for token, count in enumerate(counts) for _ in range(count)])
    for algorithm in ("reinforce", "rloo", "dr_grpo"):
        rl = RL(algorithm, max_new_tokens=1)
        policy = logits.log_softmax(0)[drawn][:, None]
        advantage = advantages(rl, prices[drawn][None])
        loss, _ = rl_loss(rl, policy, policy.detach(), advantage, token_weights(rl, torch.ones_like(policy)))
        torch.testing.assert_close(torch.autograd.grad(loss, logits)[0], -expected, atol=1e-3, rtol=0)


def test_the_kl_penalty_follows_the_gradient_of_the_divergence():
    """Also where other replies were drawn than the policy would draw now: the ratio sees to it."""
    draw = torch.Generator().manual_seed(0)
    logits, other, drew = torch.randn(3, 5, generator=draw)
    policy, reference, old = logits.requires_grad_().log_softmax(0), other.log_softmax(0), drew.log_softmax(0)
    (expected,) = torch.autograd.grad((policy.exp() * (policy - reference)).sum(), logits, retain_graph=True)
    rl, weights = RL("grpo", beta=1.0), old.exp()[:, None]  # each token as often as it is drawn
    loss, watched = rl_loss(rl, policy[:, None], old[:, None], torch.zeros(5, 1), weights, reference[:, None])
    torch.testing.assert_close(torch.autograd.grad(loss, logits)[0], expected, atol=1e-6, rtol=1e-5)
    assert loss.item() == pytest.approx((policy.exp() * (policy - reference)).sum().item(), abs=1e-6)
    assert (watched["kl"] >= 0).all()


def ppo_samples():
    draw = torch.Generator().manual_seed(1)
    mask = (torch.arange(5) < torch.tensor([[5], [1], [3]])).float()
    values, kl, rewards = torch.randn(3, 5, generator=draw), torch.randn(3, 5, generator=draw) * mask, torch.randn(3)
    return mask, values, kl, rewards


def test_gae_sums_the_surprises_that_follow():
    mask, values, kl, rewards = ppo_samples()
    value, beta = Value(discount=0.9, decay=0.8), 0.5
    found, returns = gae(value, token_rewards(rewards, beta * kl, mask), values, mask)
    for i, length in enumerate((5, 1, 3)):
        paid = [-beta * kl[i, t] + (rewards[i] if t == length - 1 else 0) for t in range(length)]
        after = [values[i, t + 1] if t < length - 1 else 0 for t in range(length)]
        surprise = [paid[t] + 0.9 * after[t] - values[i, t] for t in range(length)]
        for t in range(length):
            expected = sum((0.9 * 0.8) ** k * surprise[t + k] for k in range(length - t))
            assert found[i, t].item() == pytest.approx(expected.item(), abs=1e-6)
            assert returns[i, t].item() == pytest.approx((expected + values[i, t]).item(), abs=1e-6)
        assert not found[i, length:].any()
    chosen = whitened(found, mask)[mask.bool()]
    assert (chosen.mean().item(), chosen.std().item()) == pytest.approx((0, 1), abs=1e-5)


def test_with_decay_1_returns_are_what_was_paid_and_with_0_what_is_predicted_next():
    mask, values, kl, rewards = ppo_samples()
    paid = token_rewards(rewards, kl, mask)
    _, returns = gae(Value(decay=1.0), paid, values, mask)
    torch.testing.assert_close(returns, paid.flip(1).cumsum(1).flip(1) * mask)
    _, returns = gae(Value(decay=0.0), paid, values, mask)
    torch.testing.assert_close(returns[:, :-1], (paid + (values * mask).roll(-1, 1))[:, :-1] * mask[:, :-1])


def test_values_that_move_far_have_the_larger_error():
    values, old, returns = torch.tensor([[1.0, 0.1, -1.0]]), torch.zeros(1, 3), torch.tensor([[2.0, 1.0, 2.0]])
    loss = value_loss(Value(weight=1.0, clip=0.2), values, old, returns, torch.ones(1, 3))
    assert loss.item() == pytest.approx(0.5 * (1.8**2 + 0.9**2 + 3.0**2))


@pytest.mark.parametrize("length", ["reply", "token", "constant", "sum"])
def test_the_parts_of_a_batch_add_up_to_it(length):
    rl, draw = RL("grpo", length=length, beta=0.1), torch.Generator().manual_seed(0)
    policy, old, reference = torch.randn(3, 6, 4, generator=draw) * 0.3
    mask, advantage = torch.arange(4) < torch.tensor([[4], [1], [2], [3], [1], [4]]), torch.randn(6, 1, generator=draw)
    weights = token_weights(rl, mask)
    whole, _ = rl_loss(rl, policy, old, advantage, weights, reference)
    parts = [
        rl_loss(rl, *(each[i : i + 2] for each in (policy, old, advantage, weights, reference)))[0] for i in (0, 2, 4)
    ]
    torch.testing.assert_close(sum(parts), whole)


def test_a_constant_length_makes_long_replies_count_by_their_tokens():
    mask = torch.tensor([[1, 1, 1, 1], [1, 0, 0, 0]])
    sums = {
        kind: token_weights(RL("grpo", length=kind, max_new_tokens=8), mask).sum(1).tolist()
        for kind in ("reply", "token", "constant", "sum")
    }
    assert sums["reply"] == pytest.approx([0.5, 0.5])
    assert sums["token"] == pytest.approx([0.8, 0.2])
    assert sums["constant"] == pytest.approx([0.25, 0.0625])
    assert sums["sum"] == pytest.approx([2, 0.5])


def test_settings_without_sense_are_refused():
    for algorithm in ("rloo", "grpo", "dr_grpo"):
        with pytest.raises(lk.LabkitError, match=rf"{algorithm} with group=1 has no other reply") as caught:
            RL(algorithm, group=1)
        assert "group=2" in caught.value.remedy
    assert RL("reinforce", group=1).group == RL("ppo", group=1).group == 1
    with pytest.raises(lk.LabkitError, match="no other reply"):
        RL("reinforce", group=1, prompts=1)
    for bad in (
        {"beta": -0.1},
        {"clip": 0},
        {"group": 2.0},
        {"updates": 0},
        {"sampling": 1.0},
        {"value": 1},
        {"prompts": "3"},
    ):
        with pytest.raises(lk.LabkitError, match=f"{next(iter(bad))} (must be|is) "):
            RL(**bad)
    for bad in ({"algorithm": "dpo"}, {"length": "tokens"}, {"ratio": "word"}, {"std": "group"}, {"penalty": 3}):
        with pytest.raises(lk.LabkitError, match="There is no "):
            RL(**bad)
    for bad in ({"discount": 1.1}, {"decay": -0.1}, {"weight": None}, {"clip": 0}):
        with pytest.raises(lk.LabkitError, match=next(iter(bad))):
            Value(**bad)
