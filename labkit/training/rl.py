"""Reinforcement learning from rewards: what a sample is worth (advantages), and the loss that follows from it.

REINFORCE (Williams, 1992), RLOO (Ahmadian et al., 2024, arXiv:2402.14740), GRPO (Shao et al., 2024, arXiv:2402.03300),
Dr. GRPO (Liu et al., 2025, arXiv:2503.20783) and PPO (Schulman et al., 2017, arXiv:1707.06347) share one loss. They
differ in the baseline that rewards are compared with, and in how much a token of a long reply counts.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from labkit.errors import LabkitError, require_count, require_number, set_checked, shown, unknown
from labkit.generation.sampling import Sampling
from labkit.training.ppo import Value

# For each algorithm, its std, ratio, length and penalty.
ALGORITHMS = {
    "reinforce": (False, "token", "sum", "loss"),
    "rloo": (False, "reply", "reply", "reward"),
    "grpo": (True, "token", "reply", "loss"),
    "dr_grpo": (False, "token", "constant", "loss"),
    "ppo": (True, "token", "token", "reward"),
}
CHOICES = {"std": (True, False), "ratio": ("token", "reply"), "length": ("reply", "token", "constant", "sum")}
CHOICES |= {"penalty": ("loss", "reward")}


@dataclass(frozen=True)
class RL:
    """How to learn from rewards. None takes what the algorithm's paper does.

    Attributes:
        algorithm: ``"reinforce"`` (the baseline is the mean reward of the batch), ``"rloo"`` (the mean of the group's
            other replies), ``"grpo"`` and ``"dr_grpo"`` (the mean of the group), ``"ppo"`` (a learned value).
        group: replies to each prompt.
        prompts: prompts of a step.
        max_new_tokens: the most tokens of a reply.
        sampling: how replies are drawn. They are trained as they were drawn.
        updates: optimizer updates with the same replies; from the second on, the policy is no longer what drew them.
        clip: a likelihood ratio further from 1 than this earns nothing more.
        beta: weight of the KL divergence from the reference, the model before training; 0 for none.
        std: divide advantages by the standard deviation: GRPO by the group's, the others by the batch's.
        ratio: compare likelihoods of each ``"token"`` or of the whole ``"reply"``.
        length: what the loss is a mean over: ``"reply"``, first each reply's tokens, then replies; ``"token"``, all
            tokens; ``"constant"``, replies, of sums divided by ``max_new_tokens``; ``"sum"``, replies, of sums.
        penalty: whether the KL divergence is part of the ``"loss"`` or of the ``"reward"``.
        value: of PPO's value head.
        max_failures: steps that are skipped because a reward failed; one more stops the run.
    """

    algorithm: str = "grpo"
    group: int = 8
    prompts: int = 4
    max_new_tokens: int = 64
    sampling: Sampling = field(default_factory=Sampling)
    updates: int = 1
    clip: float = 0.2
    beta: float = 0.0
    std: bool | None = None
    ratio: str | None = None
    length: str | None = None
    penalty: str | None = None
    value: Value = field(default_factory=Value)
    max_failures: int = 3

    def __post_init__(self) -> None:
        for name in ("group", "prompts", "max_new_tokens", "updates"):
            set_checked(self, **{name: require_count(name, getattr(self, name))})
        set_checked(self, max_failures=require_count("max_failures", self.max_failures, low=0))
        set_checked(self, clip=require_number("clip", self.clip, above=0))
        set_checked(self, beta=require_number("beta", self.beta, low=0))
        for name, kind in (("sampling", Sampling), ("value", Value)):
            if not isinstance(given := getattr(self, name), kind):
                raise LabkitError(f"{name} is {shown(given)}.", f"Pass a {kind.__name__}, or leave it out.")
        if self.algorithm not in ALGORITHMS:
            raise unknown("algorithm", self.algorithm, ALGORITHMS)
        for (name, choices), usual in zip(CHOICES.items(), ALGORITHMS[self.algorithm], strict=True):
            if getattr(self, name) is None:
                object.__setattr__(self, name, usual)
            elif getattr(self, name) not in choices:
                raise unknown(name, getattr(self, name), map(str, choices))
        compared = self.group if self.algorithm in ("rloo", "grpo", "dr_grpo") else self.group * self.prompts
        if compared < 2:
            cause = f"{self.algorithm} with group={self.group} has no other reply to compare a reply with."
            raise LabkitError(cause, "Draw more replies to each prompt: group=2 or more.")


def advantages(rl: RL, rewards: torch.Tensor) -> torch.Tensor:
    """Return how much better than its baseline each reply is, shape (samples, 1), from rewards (groups, size)."""
    if rl.algorithm == "reinforce":
        found = rewards - rewards.mean()
    elif rl.algorithm == "rloo":
        found = rewards - (rewards.sum(1, keepdim=True) - rewards) / (rewards.shape[1] - 1)
    else:
        found = rewards - rewards.mean(1, keepdim=True)
    if rl.std:
        scale = rewards.std(1, keepdim=True) if rl.algorithm in ("grpo", "dr_grpo") else found.std()
        found = found / (scale + 1e-4)
    return found.reshape(-1, 1)


def token_weights(rl: RL, mask: torch.Tensor) -> torch.Tensor:
    """Return how much each token counts in the loss of a batch, shape (samples, tokens); 0 for padding."""
    mask, samples = mask.float(), len(mask)
    if rl.length == "reply":
        return mask / mask.sum(1, keepdim=True).clamp(min=1) / samples
    if rl.length == "token":
        return mask / mask.sum().clamp(min=1)
    return mask / samples / (rl.max_new_tokens if rl.length == "constant" else 1)


def rl_loss(
    rl: RL,
    policy: torch.Tensor,
    old: torch.Tensor,
    advantage: torch.Tensor,
    weights: torch.Tensor,
    reference: torch.Tensor | None = None,
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Return the loss of a batch or a part of it, and what to watch of each token: whether it is clipped, and its KL.

    Args:
        rl: the algorithm.
        policy: log-probabilities of the replies' tokens under the model in training, shape (samples, tokens).
        old: the same when they were drawn.
        advantage: shape (samples, 1), or (samples, tokens).
        weights: ``token_weights`` of the whole batch.
        reference: log-probabilities under the reference.
    """
    change = (policy - old) * (weights > 0)
    ratio = torch.exp(change if rl.ratio == "token" else change.sum(1, keepdim=True).expand_as(change))
    gain = torch.min(ratio * advantage, ratio.clamp(1 - rl.clip, 1 + rl.clip) * advantage)
    clipped = ((ratio < 1 - rl.clip) & (advantage < 0)) | ((ratio > 1 + rl.clip) & (advantage > 0))
    loss, watched = -(weights * gain).sum(), {"clipped": clipped.float()}
    if reference is not None:
        # Unbiased, never below 0 and of low variance: k3 of Schulman (2020), joschu.net/blog/kl-approx.html.
        # The ratio makes its gradient that of the KL divergence, too (DeepSeek-AI, 2025, arXiv:2512.02556).
        watched["kl"] = ratio * (torch.exp(reference - policy) - (reference - policy) - 1)
        if rl.beta and rl.penalty == "loss":
            loss = loss + rl.beta * (weights * watched["kl"]).sum()
    return loss, {name: values.detach() for name, values in watched.items()}


def flat_groups(rewards: torch.Tensor) -> float:
    """Return the share of groups whose replies all have the same reward, from which nothing can be learned."""
    return float(torch.isclose(rewards, rewards[:, :1]).all(1).float().mean())
