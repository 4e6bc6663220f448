"""How far training moved a model, measured where the model now goes: on replies of its own."""

from __future__ import annotations

from labkit.generation.batched import generate
from labkit.generation.prompts import Prompts, fitted
from labkit.generation.sampling import Sampling
from labkit.models.model import Model
from labkit.training.rollouts import Samples, score_all


def divergence(model: Model, base: Model, prompts: Prompts, most: int, seed: int) -> float:
    """Return the divergence KL(model ‖ base) in nats per token, over replies that the model draws at temperature 1.

    It is the mean of π_base/π − log(π_base/π) − 1 over their tokens: unbiased, never negative, of low variance
    (Schulman, 2020, joschu.net/blog/kl-approx.html, k3).

    Args:
        model: what has moved.
        base: from where.
        prompts: what is replied to, once each.
        most: tokens of a reply.
        seed: of the random numbers.
    """
    asked, drawn = fitted(model, prompts, most), Sampling()
    samples = Samples.of(
        asked, generate(model, asked, most, sampling=drawn, seed=seed, drawn=True), drawn, model.device
    )
    difference = (score_all(base, samples, 16).logprobs - samples.old) * samples.mask
    return ((difference.exp() - difference - 1).sum() / samples.mask.sum()).item()
