"""Credit: what a step of reinforcement learning draws, and what each token of its replies is worth.

``PolicyTrainer`` learns from this, and ``lk.sample_episodes`` shows it.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from labkit.methods.adapter import adapters_of
from labkit.methods.disabling import disable_adapter
from labkit.models.model import Model
from labkit.training.ppo import gae, token_rewards, whitened
from labkit.training.rl import RL, advantages
from labkit.training.rollouts import Samples, Scores, draw, score_all


@dataclass(frozen=True)
class Credit:
    """What is learned from replies.

    Attributes:
        advantage: shape (replies, 1), or of PPO (replies, tokens).
        returns: what values should predict, shape (replies, tokens); zeros without a value head.
        before: what the policy and its value head make of the replies before they change; None where nothing asks.
        reference: the tokens' log-probabilities under the model before training, or None where there is none.
    """

    advantage: torch.Tensor
    returns: torch.Tensor
    before: Scores | None
    reference: torch.Tensor | None


def drawn_at(model: Model, prompts: Sequence[list[int]], rl: RL, seed: int, step: int) -> Samples:
    """Return the replies of a step, counted from 0: they depend on the seed of the run and the step alone."""
    return draw(model, prompts, rl, random.Random(f"replies {seed} {step}").getrandbits(31))


def credit(
    model: Model,
    samples: Samples,
    rewards: torch.Tensor,
    rl: RL,
    size: int,
    value_head: nn.Linear | None = None,
    reference: Model | None = None,
) -> Credit:
    """Return what each token is worth.

    Args:
        model: the policy.
        samples: what it drew.
        rewards: one of each reply.
        rl: how to learn from rewards.
        size: replies that are read at once.
        value_head: PPO's.
        reference: another model to compare with than the policy, its adapter disabled.
    """
    mask = samples.mask
    compared = _compared(model, reference, samples, size)
    penalised = rl.penalty == "reward" and rl.beta > 0
    before = score_all(model, samples, size, value_head) if penalised or value_head is not None else None
    penalty = torch.zeros_like(mask)
    if penalised and before is not None and compared is not None:
        # Not the log-probabilities of drawing: in 16 bits they round otherwise, and that would count as divergence.
        penalty = rl.beta * (before.logprobs - compared)
    if before is None or before.values is None:
        paid = rewards.to(mask) - (penalty * mask).sum(1)
        return Credit(advantages(rl, paid.view(-1, rl.group)), torch.zeros_like(mask), before, compared)
    found = token_rewards(rewards.to(mask), penalty, mask)
    advantage, returns = gae(rl.value, found, before.values, mask)
    return Credit(whitened(advantage, mask) if rl.std else advantage, returns, before, compared)


def zero_head(model: Model) -> nn.Linear:
    """Return a value head that predicts 0 everywhere, as nothing is known yet."""
    head = nn.Linear(model.embeddings.embedding_dim, 1, device=model.device)
    for parameter in head.parameters():
        nn.init.zeros_(parameter)
    return head


def _compared(model: Model, reference: Model | None, samples: Samples, size: int) -> torch.Tensor | None:
    """Return the replies' log-probabilities under the model before training, or None where there is none.

    Without ``reference``, it is the same model, its adapter disabled.
    """
    if reference is not None:
        return score_all(reference, samples, size).logprobs
    if not adapters_of(model):
        return None
    with disable_adapter(model):
        return score_all(model, samples, size).logprobs
