"""The levels of the 4-bit formats and of the 8-bit dynamic one, each derived from its definition."""

from __future__ import annotations

from functools import cache

import torch

from labkit.errors import unknown


def nf4_levels() -> torch.Tensor:
    """Return the 16 levels of 4-bit NormalFloat, from −1 to 1, in float32.

    Trained weights look normally distributed. Levels at quantiles of the normal distribution are then
    all used about equally often (Dettmers et al., 2023, arXiv:2305.14314, equation 4). The outermost
    quantile cannot be 1, which is at infinity: the authors take the mean of 1 − 1/32 and 1 − 1/30,
    halfway into the last of 16 and of 15 equal slices. Eight levels are above zero and seven below, so
    that zero itself is a level.
    """
    outermost = 0.9677083  # (1 − 1/32 + 1 − 1/30) / 2, to the digits and the precision of the published levels
    above = torch.special.ndtri(torch.linspace(outermost, 0.5, 9)[:-1].double())
    below = -torch.special.ndtri(torch.linspace(outermost, 0.5, 8)[:-1].double())
    levels = torch.cat([below, torch.zeros(1), above.flip(0)]).float()
    return levels / levels.max()


def fp4_levels() -> torch.Tensor:
    """Return 16 levels by code: a sign bit, two bits of exponent and one of fraction, scaled to reach 1.

    The order of the exponents is bitsandbytes' own: its codes 1 to 7 stand for 1/16, 8, 12, 4, 6, 2 and 3
    twelfths. The smallest is not a regular subnormal, which would be 1.
    """
    magnitudes = torch.tensor([0.0, 0.0625, 8.0, 12.0, 4.0, 6.0, 2.0, 3.0])
    return torch.cat([magnitudes, -magnitudes]) / 12


def int4_levels() -> torch.Tensor:
    """Return the 15 evenly spaced levels −7/7 … 7/7 (the sixteenth code repeats the last)."""
    return torch.arange(-7, 9).clamp(max=7) / 7


@cache
def dynamic_levels(device: torch.device | None = None) -> torch.Tensor:
    """Return the 256 levels of the 8-bit dynamic format, ascending (Dettmers, 2015, arXiv:1511.04561).

    A decade has twice the levels of the decade below it: 1 between 10⁻⁷ and 10⁻⁶, 64 between 0.1 and 1,
    each in the middle of an equal slice of its decade, and all with both signs; 0 and 1 are added.
    """
    decades = []
    for decade in range(7):
        edges = torch.linspace(0.1, 1, 2**decade + 1)
        decades.append(10.0 ** (decade - 6) * (edges[:-1] + edges[1:]) / 2)
    positive = torch.cat(decades)
    return torch.cat([-positive, torch.tensor([0.0, 1.0]), positive]).sort().values.to(device)


LEVELS = {"nf4": nf4_levels, "fp4": fp4_levels, "int4": int4_levels}


@cache
def levels(name: str) -> torch.Tensor:
    """Return the levels of a 4-bit format by code, shape (16,), float32.

    Raises:
        LabkitError: there is no format of that name.
    """
    if name not in LEVELS:
        raise unknown("4-bit format", str(name), LEVELS)
    return LEVELS[name]()
