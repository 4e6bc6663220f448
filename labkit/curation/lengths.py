"""Texts that are far longer or shorter than the others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

BEYOND = 2.0  # times the distance of the quartiles, in logarithms
LEAST = 2.0  # quartiles that differ by less are taken to differ by this factor: texts of one template are all alike


class Lengths(NamedTuple):
    """How long texts are.

    Attributes:
        counts: the characters of each text.
        low, high: texts with fewer, or more, characters are unlike the others.
    """

    counts: tuple[int, ...]
    low: float
    high: float

    def short(self) -> list[int]:
        """Return the texts that are too short, by their indices."""
        return [i for i, count in enumerate(self.counts) if count < self.low]

    def long(self) -> list[int]:
        """Return the texts that are too long, by their indices."""
        return [i for i, count in enumerate(self.counts) if count > self.high]


def measure_lengths(texts: Sequence[str]) -> Lengths:
    """Return how long texts are, without white space around them, and from where on they are unlike the others.

    The limits lie beyond the quartiles by twice their distance, in logarithms (after Tukey, 1977), as lengths differ
    by factors: with quartiles of 100 and 200 characters, texts below 25 and above 800 are unlike the others.
    """
    counts = tuple(len(text.strip()) for text in texts)
    first, third = np.quantile(np.maximum(counts, 1), [0.25, 0.75]) if counts else (1.0, 1.0)
    ratio = max(third / first, LEAST) ** BEYOND
    return Lengths(counts, float(first / ratio), float(third * ratio))
