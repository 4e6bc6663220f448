"""Intervals of proportions, such as an accuracy of which only the counts are known."""

from __future__ import annotations

import math


def wilson(correct: float, total: int, z: float = 1.96) -> tuple[float, float]:
    """Return the Wilson score interval of a proportion, as fractions (Wilson, 1927, JASA 22, 209–212)."""
    share, spread = correct / total, z * z / total
    middle = (share + spread / 2) / (1 + spread)
    half = z / (1 + spread) * math.sqrt(share * (1 - share) / total + spread / (4 * total))
    return max(0.0, middle - half), min(1.0, middle + half)


def difference_of_proportions(
    first: float, first_total: int, second: float, second_total: int
) -> tuple[tuple[float, float], float]:
    """Return the 95% interval of the difference of two proportions, and p.

    The interval is Newcombe's (1998, Statistics in Medicine 17, 873–890, method 10), made of two of Wilson's. The p is
    that of the pooled z-test. The two may disagree by a hair where the interval ends at 0.
    """
    (low, high), (lower, higher) = (wilson(p * n, n) for p, n in ((first, first_total), (second, second_total)))
    difference = first - second
    below, above = math.hypot(first - low, higher - second), math.hypot(high - first, second - lower)
    pooled = (first * first_total + second * second_total) / (first_total + second_total)
    error = math.sqrt(pooled * (1 - pooled) * (1 / first_total + 1 / second_total))
    p = math.erfc(abs(difference) / error / math.sqrt(2)) if error else 1.0
    return (difference - below, difference + above), p
