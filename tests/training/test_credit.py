"""The divergence is counted from the model before training, whichever way it is asked."""

from dataclasses import replace

import torch
from tiny import STRONG, tiny_model

import labkit as lk
from labkit.preparation import prepare
from labkit.training.credit import credit, drawn_at


def test_another_model_as_reference_stands_for_the_disabled_adapter(tokenizer, one_thread):
    before = tiny_model("llama", tokenizer("smollm2-135m"), vocab_size=128, **STRONG)
    policy = prepare(before, None, lk.LoRA(), 0)
    generator = torch.Generator().manual_seed(1)
    for parameter in policy.trainable().values():
        parameter.data.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    rl = lk.RL("rloo", beta=1.0, group=3, max_new_tokens=6)
    samples = drawn_at(policy, [[5, 6], [7, 8, 9]], rl, seed=0, step=0)
    rewards = torch.tensor([1.0, 0.0, 0.5, 0.0, 2.0, 1.0])
    disabled, copied, itself = (credit(policy, samples, rewards, rl, 4, None, each) for each in (None, before, policy))
    torch.testing.assert_close(copied.reference, disabled.reference)
    torch.testing.assert_close(copied.advantage, disabled.advantage)
    torch.testing.assert_close(itself.reference, samples.old, atol=2e-5, rtol=1e-5)
    plain = rewards.view(2, 3)  # no divergence from itself; RLOO: n / (n - 1) times the distance from the mean
    plain = 1.5 * (plain - plain.mean(1, keepdim=True))
    torch.testing.assert_close(itself.advantage.view(2, 3), plain, atol=1e-3, rtol=0)
    assert (copied.advantage - itself.advantage).abs().max() > 0.1
    # How the tokens' log-probabilities rounded when they were drawn is no divergence.
    rounded = replace(samples, old=samples.old + 0.05 * torch.randn(samples.old.shape, generator=generator))
    torch.testing.assert_close(credit(policy, rounded, rewards, rl, 4).advantage, disabled.advantage)
