"""What PPO adds: a value head that predicts rewards token by token, advantages from it, and its loss."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from labkit.errors import LabkitError, require_number, set_checked


@dataclass(frozen=True)
class Value:
    """How values are learned and used.

    Attributes:
        discount: γ, what a reward one token later is worth.
        decay: λ: 0 trusts the values, 1 the rewards alone (Schulman et al., 2016, arXiv:1506.02438).
        weight: of the values' loss.
        clip: how far a value may move while the same replies are used.
    """

    discount: float = 1.0
    decay: float = 0.95
    weight: float = 0.1
    clip: float = 0.2

    def __post_init__(self) -> None:
        for name in ("discount", "decay", "weight"):
            set_checked(self, **{name: require_number(name, getattr(self, name), low=0)})
        set_checked(self, clip=require_number("clip", self.clip, above=0))
        if max(self.discount, self.decay) > 1:
            raise LabkitError("discount and decay are at most 1.", "Try discount=1.0 and decay=0.95.")


def token_rewards(rewards: torch.Tensor, penalty: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Return the rewards of each token, shape (samples, tokens): a reply's at its last, less a penalty at each.

    Args:
        rewards: one of each reply.
        penalty: of each token.
        mask: 1 for a token of a reply, whose tokens come first.
    """
    found = -penalty * mask
    found[torch.arange(len(mask)), mask.sum(1).long() - 1] += rewards
    return found


def gae(
    value: Value, rewards: torch.Tensor, values: torch.Tensor, mask: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return advantages, and the returns that values should predict, both of shape (samples, tokens).

    Generalized advantage estimation (Schulman et al., 2016, arXiv:1506.02438, equation 16).

    Args:
        value: γ and λ.
        rewards: of each token.
        values: what is predicted before each token.
        mask: 1 for a token of a reply, whose tokens come first.
    """
    values, found = values * mask, torch.zeros_like(values)
    later = following = torch.zeros_like(values[:, 0])
    for t in reversed(range(values.shape[1])):
        surprise = rewards[:, t] + value.discount * following - values[:, t]
        later = (surprise + value.discount * value.decay * later) * mask[:, t]
        found[:, t], following = later, values[:, t]
    return found, found + values


def whitened(advantage: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Return advantages of mean 0 and variance 1 over the tokens of a batch."""
    chosen = advantage[mask.nonzero(as_tuple=True)]
    return (advantage - chosen.mean()) * torch.rsqrt(chosen.var() + 1e-8) * mask


def value_loss(
    value: Value, values: torch.Tensor, old: torch.Tensor, returns: torch.Tensor, weights: torch.Tensor
) -> torch.Tensor:
    """Return the loss of predicted values: half their squared errors; ``weights`` says how much a token counts.

    A value further than ``value.clip`` from the ``old`` one has the larger of both errors (Schulman's code of PPO).
    """
    near = torch.clamp(values, old - value.clip, old + value.clip)
    errors = torch.max((values - returns) ** 2, (near - returns) ** 2)
    return value.weight * 0.5 * (weights * errors).sum()
