"""How much an accuracy varies between test sets and between seeds: draw both again and again, with replacement.

Efron and Tibshirani, 1993, An Introduction to the Bootstrap, chapters 8 and 16. Drawing rows and columns at once counts
the noise of a single answer more than once, so that intervals are rather too wide than too narrow (Owen, 2007, The
pigeonhole bootstrap, Annals of Applied Statistics 1, 386–411), unless a few seeds differ a lot.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from labkit.errors import require_count, require_seed
from labkit.evaluation.outcomes import Outcomes, Runs
from labkit.evaluation.proportions import wilson

MOST_DRAWS = 10**6  # more change no digit that is shown
CHUNK = 1000  # draws at once, for the memory that they take


def bootstrap_interval(runs: Runs, *, draws: int = 2000, seed: int = 0) -> tuple[float, float]:
    """Return the 95% interval of a method's accuracy over other seeds and other test examples, as fractions."""
    draws, seed = require_count("draws", draws, high=MOST_DRAWS), require_seed(seed)
    found = Outcomes.of("the method", runs)
    if found.hits is None:
        return wilson(found.accuracy * found.total, found.total)
    return middle(resampled([found.hits], draws, seed)[0])


def resampled(methods: Sequence[np.ndarray], draws: int, seed: int) -> list[np.ndarray]:
    """Return each method's accuracy in each draw. All share the draws of examples; each has its own of runs.

    Args:
        methods: of each method, 1 for each example that a run got right and 0 for each other, shape (runs, examples).
        draws, seed: how many, and of which random numbers.
    """
    total = methods[0].shape[1]
    of_examples = np.random.default_rng(seed)
    of_runs = [np.random.default_rng([seed, number]) for number in range(1, len(methods) + 1)]
    chunks = []
    for start in range(0, draws, CHUNK):
        size = min(CHUNK, draws - start)
        examples = of_examples.multinomial(total, np.full(total, 1 / total), size=size)
        accuracies = []
        for hits, rng in zip(methods, of_runs, strict=True):
            chosen = rng.multinomial(len(hits), np.full(len(hits), 1 / len(hits)), size=size)
            accuracies.append(((chosen @ hits) * examples).sum(axis=1) / hits.size)
        chunks.append(accuracies)
    return [np.concatenate(each) for each in zip(*chunks, strict=True)]


def middle(values: np.ndarray) -> tuple[float, float]:
    """Return the ends of the middle 95% of some draws."""
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)


def chance_of(differences: np.ndarray) -> float:
    """Return p from drawn differences: twice the share that lies on the other side of 0, the data counted as a draw."""
    tail = min(np.count_nonzero(differences <= 0), np.count_nonzero(differences >= 0))
    return min(1.0, 2 * (tail + 1) / (len(differences) + 1))
