"""Losses that prefer one completion to another: DPO and its relatives, as one function of log-probabilities."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch.nn import functional as F

from labkit.errors import LabkitError, require_number, set_checked, unknown

# Each loss with its usual beta, from the papers; that of length-normalized DPO is Tülu 3's.
LOSSES = {"dpo": 0.1, "dpo_norm": 5.0, "ipo": 0.1, "kto": 0.1, "orpo": 0.1, "simpo": 2.0}
WITH_REFERENCE = ("dpo", "dpo_norm", "ipo", "kto")


@dataclass(frozen=True)
class Preference:
    """Which loss prefers the chosen completion of a pair to the rejected one; see ``preference_loss``.

    Attributes:
        loss: ``"dpo"``, ``"dpo_norm"`` (length-normalized DPO), ``"ipo"``, ``"kto"``, ``"orpo"`` or ``"simpo"``.
        beta: its strength, above 0: the larger it is with a reference, the closer the model stays to it. IPO's paper
            calls it τ, ORPO's λ. By default, the loss's usual one.
        sft: weight of the chosen completions' mean loss a token (supervised fine-tuning), which keeps them likely.
            ORPO has this term with weight 1 by itself, and ``sft`` adds to it.
        gamma: SimPO's target margin; half of beta by default, and for SimPO alone.
    """

    loss: str = "dpo"
    beta: float | None = None
    sft: float = 0.0
    gamma: float | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.loss, str) or self.loss not in LOSSES:
            raise unknown("preference loss", self.loss, LOSSES)
        beta = LOSSES[self.loss] if self.beta is None else self.beta
        beta = require_number("beta", beta, above=0, remedy=f"Try {LOSSES[self.loss]}.")
        set_checked(self, beta=beta, sft=require_number("sft", self.sft, low=0, remedy="Try 0 or 1."))
        if self.loss == "simpo":
            gamma = beta / 2 if self.gamma is None else self.gamma
            set_checked(self, gamma=require_number("gamma", gamma, low=0, remedy=f"Try {beta / 2:g}."))
        elif self.gamma is not None:
            raise LabkitError(f"gamma is SimPO's margin, and {self.loss} has none.", 'Leave it out, or use "simpo".')

    @property
    def needs_reference(self) -> bool:
        """Whether the loss compares the model with the one that it was before training."""
        return self.loss in WITH_REFERENCE


class LogProbs(NamedTuple):
    """Log-probabilities of whole completions, in nats, and their numbers of tokens, each of shape (pairs,)."""

    chosen: torch.Tensor
    rejected: torch.Tensor
    chosen_tokens: torch.Tensor
    rejected_tokens: torch.Tensor


class Judged(NamedTuple):
    """The loss of each pair, and the rewards that its completions get (detached), each of shape (pairs,)."""

    losses: torch.Tensor
    chosen: torch.Tensor
    rejected: torch.Tensor


def preference_loss(
    preference: Preference,
    policy: LogProbs,
    reference: LogProbs | None = None,
    *,
    baseline: torch.Tensor | float = 0.0,
    mean_tokens: float | None = None,
) -> Judged:
    """Return the loss of each pair; their mean is what a batch is trained on.

    With r(y) = log π(y) − log π_ref(y), or log π(y) without a reference, and r̄ the same a token, a completion's reward
    is βr, or βr̄ without a reference, as in TRL.

    Args:
        preference: the loss and its numbers.
        policy: of the model in training.
        reference: of the model before training, for losses that need it.
        baseline: KTO's z₀, at least 0: how far the model is from the reference (KL), estimated from completions of
            other prompts. It must not have a gradient.
        mean_tokens: tokens of a chosen completion, on average, where these pairs are only a part of a batch.

    Raises:
        LabkitError: the loss needs a reference, and there is none.
    """
    beta = preference.beta or LOSSES[preference.loss]  # __post_init__ has set it
    chosen, rejected = policy.chosen, policy.rejected
    if preference.needs_reference:
        if reference is None:
            raise LabkitError(
                f"{preference.loss} compares the model with what it was before training.",
                "Pass the reference's log-probabilities, or use orpo or simpo.",
            )
        chosen, rejected = chosen - reference.chosen, rejected - reference.rejected
    # Void pairs, of no tokens, fill up a process's share.
    chosen_mean = chosen / policy.chosen_tokens.clamp(min=1)
    rejected_mean = rejected / policy.rejected_tokens.clamp(min=1)

    match preference.loss:
        case "dpo":  # Rafailov et al., 2023, arXiv:2305.18290, equation 7
            losses = -F.logsigmoid(beta * (chosen - rejected))
        case "dpo_norm":  # Lambert et al., 2024 (Tülu 3), arXiv:2411.15124, section 5.1
            losses = -F.logsigmoid(beta * (chosen_mean - rejected_mean))
        case "ipo":  # Azar et al., 2023, arXiv:2310.12036, equation 17, a token: TRL asked the authors
            losses = (chosen_mean - rejected_mean - 1 / (2 * beta)) ** 2
        case "kto":  # Ethayarajh et al., 2024, arXiv:2402.01306, equation 7: chosen and rejected weigh the same
            losses = 1 - (torch.sigmoid(beta * (chosen - baseline)) + torch.sigmoid(beta * (baseline - rejected))) / 2
        case "orpo":  # Hong et al., 2024, arXiv:2403.07691, equations 6 and 7; its first term is below
            losses = -beta * F.logsigmoid(_log_odds(chosen_mean) - _log_odds(rejected_mean))
        case _:  # SimPO: Meng et al., 2024, arXiv:2405.14734, equation 6
            losses = -F.logsigmoid(beta * (chosen_mean - rejected_mean) - (preference.gamma or 0.0))

    weight = preference.sft + (preference.loss == "orpo")
    if weight:  # divided by the same number for all pairs, so that each token weighs the same
        losses = losses - weight * policy.chosen / (mean_tokens or policy.chosen_tokens.float().mean())
    rewards = (chosen, rejected) if preference.needs_reference else (chosen_mean, rejected_mean)
    return Judged(losses, beta * rewards[0].detach(), beta * rewards[1].detach())


def _log_odds(log_p: torch.Tensor) -> torch.Tensor:
    """Return log(p / (1 − p)); a p that rounds to 1 counts as just below it."""
    return log_p - torch.log(-torch.expm1(log_p.clamp(max=-torch.finfo(log_p.dtype).eps)))
