"""Make one LoRA of several: the field's ways of merging, applied to the factors as PEFT does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch

from labkit.methods.factors import Factors

# What makes one tensor of several: their stack (adapters, …), their weights (adapters, 1, 1), the density, and random
# numbers.
Way: TypeAlias = Callable[[torch.Tensor, torch.Tensor, float, torch.Generator], torch.Tensor]


def linear(stack: torch.Tensor, weights: torch.Tensor, density: float, random: torch.Generator) -> torch.Tensor:
    """Return Σᵢ wᵢTᵢ: task arithmetic (Ilharco et al., 2022, arXiv:2212.04089)."""
    return (stack * weights).sum(0)


def ties(stack: torch.Tensor, weights: torch.Tensor, density: float, random: torch.Generator) -> torch.Tensor:
    """Trim, elect signs, and average what agrees: TIES (Yadav et al., 2023, arXiv:2306.01708, algorithm 1).

    Of each Tᵢ, the share ``density`` of the largest numbers is kept: T̂ᵢ. Each place gets the sign γ = sgn(Σᵢ T̂ᵢ), and
    the mean of wᵢT̂ᵢ over those i whose T̂ᵢ has that sign. Where the sum is 0, γ is 1.
    """
    return _agreeing(torch.stack([_trimmed(each, density) for each in stack]), weights)


def dare(stack: torch.Tensor, weights: torch.Tensor, density: float, random: torch.Generator) -> torch.Tensor:
    """Return Σᵢ wᵢ·mᵢTᵢ/density: DARE (Yu et al., 2023, arXiv:2311.03099, equation 1).

    mᵢ is 1 with the probability ``density`` and else 0. Dividing keeps the expected value.
    """
    return linear(_dropped(stack, density, random), weights, density, random)


def dare_ties(stack: torch.Tensor, weights: torch.Tensor, density: float, random: torch.Generator) -> torch.Tensor:
    """Drop and rescale as ``dare`` does; then elect signs and average as ``ties`` does."""
    return _agreeing(_dropped(stack, density, random), weights)


WAYS: dict[str, Way] = {"linear": linear, "ties": ties, "dare": dare, "dare_ties": dare_ties}


def combined(
    factors: Sequence[Factors], weights: Sequence[float], how: str, density: float, random: torch.Generator
) -> Factors:
    """Return the factors of one update of a layer, made of several of one rank, with a scale of 1.

    Each way treats A and B by themselves, with the weights √|wᵢsᵢ| and wᵢ's sign in A. So even ``linear`` isn't
    Σᵢ wᵢsᵢBᵢAᵢ: the product of two sums holds BᵢAⱼ as well. ``concatenated`` is exact, at a higher rank.
    """
    shares = torch.tensor([weight * each.scale for weight, each in zip(weights, factors, strict=True)])
    roots = shares.abs().sqrt()[:, None, None]
    signs = torch.where(shares >= 0, 1.0, -1.0)[:, None, None]
    A = WAYS[how](torch.stack([each.A for each in factors]), (roots * signs).to(factors[0].A), density, random)
    B = WAYS[how](torch.stack([each.B for each in factors]), roots.to(factors[0].B), density, random)
    return Factors(A, B, 1.0)


def concatenated(factors: Sequence[Factors], weights: Sequence[float]) -> Factors:
    """Return Σᵢ wᵢsᵢBᵢAᵢ exactly, as factors whose rank is the sum of the ranks: all wᵢsᵢAᵢ above each other."""
    parts = [each.A * (weight * each.scale) for weight, each in zip(weights, factors, strict=True)]
    return Factors(torch.cat(parts), torch.cat([each.B for each in factors], dim=1), 1.0)


def _trimmed(tensor: torch.Tensor, density: float) -> torch.Tensor:
    """Return a tensor whose largest numbers, a share of ``density``, stay; the others are 0."""
    flat = tensor.flatten()
    largest = flat.abs().topk(int(density * len(flat))).indices
    return torch.zeros_like(flat).index_copy(0, largest, flat[largest]).view_as(tensor)


def _dropped(stack: torch.Tensor, density: float, random: torch.Generator) -> torch.Tensor:
    kept = [torch.bernoulli(torch.full(each.shape, density), generator=random) for each in stack]
    return stack * torch.stack(kept).to(stack) / density


def _agreeing(stack: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    agree = stack.sign() == torch.where(stack.sum(0) >= 0, 1, -1)
    return (stack * weights * agree).sum(0) / agree.sum(0).clamp(min=1)
