"""How much an accuracy varies between test sets and between seeds.

Test examples are many: they are drawn again and again, with replacement (Efron and Tibshirani, 1993, An Introduction to
the Bootstrap, chapters 8 and 16). Seeds are few, and three or five of them, drawn with replacement, vary too little.
How much they differ is estimated, beyond the noise of single answers, and Student's t says what so few can tell.
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
    low, high = middle(over_examples([found.hits], draws, seed)[0] + over_runs([found.hits], draws, seed))
    return max(0.0, low), min(1.0, high)


def over_examples(methods: Sequence[np.ndarray], draws: int, seed: int) -> list[np.ndarray]:
    """Return each method's accuracy, the mean of its runs, in each draw of examples, which all methods share.

    Args:
        methods: of each method, 1 for each example that a run got right and 0 for each other, shape (runs, examples).
        draws, seed: how many, and of which random numbers.
    """
    total = methods[0].shape[1]
    # Sums of whole numbers are exact. With rounded shares, two equal methods would differ by the order of a sum, which
    # processors choose differently: whether a draw lies on the other side of 0 would then depend on the machine.
    right = np.stack([hits.sum(axis=0) for hits in methods], axis=1).astype(np.float64)  # by how many runs
    rng = np.random.default_rng(seed)
    chunks = []
    for start in range(0, draws, CHUNK):
        examples = rng.multinomial(total, np.full(total, 1 / total), size=min(CHUNK, draws - start))
        chunks.append(examples @ right)
    return list(np.concatenate(chunks).T / [[hits.size] for hits in methods])


def over_runs(methods: Sequence[np.ndarray], draws: int, seed: int) -> np.ndarray:
    """Draw what other runs, of one method or of two, may add to the accuracy or to its difference, shape (draws,).

    It follows Student's t, with the degrees of freedom of Welch (1947, Biometrika 34, 28–35) for two methods.
    """
    variances = [variance_of_runs(hits) for hits in methods]
    if not (total := sum(variances)):
        return np.zeros(draws)
    parts = [v**2 / (len(hits) - 1) for v, hits in zip(variances, methods, strict=True) if v]
    rng = np.random.default_rng([seed, 1])  # other numbers than those that draw examples
    return np.sqrt(total) * rng.standard_t(total**2 / sum(parts), size=draws)


def variance_of_runs(hits: np.ndarray) -> float:
    """Return the variance of the mean accuracy of as many runs: how seeds differ, beyond the noise of single answers.

    It is 0 for a single run, of which nobody can tell, and where runs differ no more than that noise would have it.
    """
    if len(hits) < 2:
        return 0.0
    noise = hits.var(axis=0, ddof=1).mean() / hits.shape[1]
    return max(0.0, float(hits.mean(axis=1).var(ddof=1) - noise)) / len(hits)


def middle(values: np.ndarray) -> tuple[float, float]:
    """Return the ends of the middle 95% of some draws."""
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)


def chance_of(differences: np.ndarray) -> float:
    """Return p from drawn differences: twice the share that lies on the other side of 0, the data counted as a draw."""
    tail = min(np.count_nonzero(differences <= 0), np.count_nonzero(differences >= 0))
    return min(1.0, 2 * (tail + 1) / (len(differences) + 1))
