"""What is trained is what was drawn: log-probabilities with padding, temperature, top-k and top-p."""

import pytest
import torch
from tiny import STRONG, tiny_model

import labkit as lk
from labkit.preparation import prepare
from labkit.training.rl import RL
from labkit.training.rollouts import Samples, draw, score, score_all

PROMPTS = [[5, 6], [7, 8, 9, 10, 11, 12, 13], [14], [15, 16, 17, 18]]
SAMPLING = [(1.0, None, 1.0), (0.6, None, 1.0), (1.7, 7, 1.0), (1.0, None, 0.7), (0.8, 40, 0.9), (1.5, 1, 1.0)]


@pytest.fixture
def policy(tokenizer, one_thread):
    """A tiny model whose distributions are far from flat, with an adapter that matters."""
    reader = tokenizer("smollm2-135m")
    model = prepare(tiny_model("llama", reader, vocab_size=128, **STRONG), None, lk.LoRA(), 0)
    disturb(model)
    return model


def disturb(model):
    generator = torch.Generator().manual_seed(1)
    for parameter in model.trainable().values():
        parameter.data.add_(torch.randn(parameter.shape, generator=generator) * 0.1)


def drawn(policy, sampling, group=3, count=9):
    rl = RL("reinforce", group=group, max_new_tokens=count, sampling=lk.Sampling(*sampling))
    return draw(policy, PROMPTS, rl, seed=5)


@pytest.mark.parametrize("sampling", SAMPLING, ids=str)
def test_what_is_trained_is_what_was_drawn(policy, sampling):
    samples = drawn(policy, sampling)
    assert len({len(ids) for ids in samples.prompts}) > 2  # so there is padding on the left, and on the right
    for size in (12, 5):
        found = score_all(policy, samples, size)
        torch.testing.assert_close(found.logprobs, samples.old, atol=2e-5, rtol=1e-5)
    assert (samples.old[samples.mask.bool()] < -1e-3).any() == (sampling[1] != 1)


@pytest.mark.parametrize("sampling", SAMPLING[:5], ids=str)
def test_log_probabilities_are_those_of_one_reply_alone(policy, sampling):
    """An independent way: each token's logits from a text of its own, and the sampler's own probabilities."""
    samples = drawn(policy, sampling, group=1, count=4)
    found = score_all(policy, samples, 4)
    for row, (prompt, reply) in enumerate(zip(samples.prompts, samples.replies, strict=True)):
        for t, token in enumerate(reply.ids):
            with torch.no_grad():
                logits = policy.module(torch.tensor([[*prompt, *reply.ids[:t]]])).logits[:, -1]
            p = samples.sampling.probabilities(logits)[0]
            assert found.logprobs[row, t].item() == pytest.approx(p[token].log().item(), abs=2e-5)
            entropy = -(p[p > 0] * p[p > 0].log()).sum()
            assert found.entropy[row, t].item() == pytest.approx(entropy.item(), abs=1e-4)
        assert not found.logprobs[row, reply.tokens :].any()


@pytest.mark.parametrize("sampling", [(0.8, None, 1.0), (1.0, 5, 0.8)], ids=str)
def test_tokens_come_as_often_as_their_log_probabilities_say(policy, sampling):
    samples = drawn(policy, sampling, group=1000, count=1)
    for prompt in range(len(PROMPTS)):
        here = slice(prompt * 1000, (prompt + 1) * 1000)
        tokens = torch.tensor([reply.ids[0] for reply in samples.replies[here]])
        claimed = dict(zip(tokens.tolist(), samples.old[here, 0].exp().tolist(), strict=True))
        top = sorted(claimed, key=claimed.get)[-4:]
        for token in top:
            share, error = claimed[token], (claimed[token] * (1 - claimed[token]) / 1000) ** 0.5
            assert (tokens == token).float().mean().item() == pytest.approx(share, abs=4.5 * error + 1e-6)


def test_a_policy_that_has_moved_is_compared_on_the_same_choices(policy):
    """top-p would leave out other tokens by now; a token that was drawn must not become impossible."""
    samples = drawn(policy, (1.0, 4, 0.6))
    policy.module.lm_head.weight.data.mul_(-1)
    found = score_all(policy, samples, 12)
    chosen = samples.mask.bool()
    assert found.logprobs.isfinite().all()
    assert (found.logprobs - samples.old)[chosen].abs().mean() > 0.1
    for reply in samples.replies:
        assert all(token in ids for token, ids in zip(reply.ids, reply.choices, strict=True))


def test_gradients_reach_the_adapter_and_not_through_the_values(policy):
    samples, head = drawn(policy, (1.0, 4, 0.6)), torch.nn.Linear(32, 1)
    found = score(policy, samples, slice(0, 5), head)
    assert found.values.shape == found.logprobs.shape == samples.mask[:5].shape
    found.values.sum().backward()
    assert head.weight.grad.abs().sum() > 0
    assert all(p.grad is None for p in policy.trainable().values())
    found.logprobs.sum().backward()
    assert all(p.grad.isfinite().all() and p.grad.any() for p in policy.trainable().values())


def test_a_wrong_temperature_would_be_noticed(policy):
    samples = drawn(policy, (0.6, None, 1.0))
    wrong = Samples.of(samples.prompts, samples.replies, lk.Sampling(1.0), policy.device)
    assert (score_all(policy, wrong, 12).logprobs - samples.old).abs().max() > 0.1
