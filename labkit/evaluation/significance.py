"""Whether one method is better than another, or the difference may be chance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from labkit.errors import LabkitError, require_count, require_seed

MOST_DRAWS = 10**6  # more would fill the memory, and change no digit that is shown


@dataclass(frozen=True)
class Difference:
    """How much more accurate one method is than another.

    Attributes:
        mean: the difference of their accuracies, as a fraction.
        interval: 95% interval of it.
    """

    mean: float
    interval: tuple[float, float]

    @property
    def tie(self) -> bool:
        """Whether the interval contains 0: then the order may be chance."""
        return self.interval[0] <= 0 <= self.interval[1]

    def __str__(self) -> str:
        low, high = (100 * bound for bound in self.interval)
        verdict = "a tie" if self.tie else "better" if self.mean > 0 else "worse"
        return f"{100 * self.mean:+.1f} points, 95% interval {low:+.1f} to {high:+.1f}: {verdict}"


def paired_bootstrap(first: Sequence[str], second: Sequence[str], *, draws: int = 2000, seed: int = 0) -> Difference:
    """Compare two methods on the same test examples (Efron and Tibshirani, 1993, An Introduction to the Bootstrap).

    Some examples are hard for every method, so the methods are compared example by example: each draw takes examples
    and, for each method, runs with replacement, and computes the difference of the accuracies. The interval is the
    middle 95% of these differences.

    Args:
        first, second: for each run (seed) of a method, a text with "1" for each example that it got right and "0" for
            every other, as in the column ``hits`` of ``lk.results("methods")``.
        draws: the number of draws.
        seed: the seed of the draws.

    Raises:
        LabkitError: the runs do not have the same number of examples.
    """
    _require_runs(first, second)
    sampled, means = zip(
        *(_resampled(runs, draws, seed, own) for own, runs in enumerate((first, second), 1)), strict=True
    )
    return Difference(means[0] - means[1], _middle(sampled[0] - sampled[1]))


def bootstrap_interval(runs: Sequence[str], *, draws: int = 2000, seed: int = 0) -> tuple[float, float]:
    """Return the 95% interval of a method's accuracy over other seeds and other test examples, as fractions."""
    _require_runs(runs)
    return _middle(_resampled(runs, draws, seed, 1)[0])


def _resampled(runs: Sequence[str], draws: int, seed: int, own: int) -> tuple[np.ndarray, float]:
    """Return the accuracy in each draw, and the observed one. Methods that are compared share the draws of examples."""
    draws, seed = require_count("draws", draws, high=MOST_DRAWS), require_seed(seed)
    hits = np.array([[int(hit) for hit in run] for run in runs])
    count, total = hits.shape
    examples = np.random.default_rng(seed).multinomial(total, np.full(total, 1 / total), size=draws)
    chosen = np.random.default_rng([seed, own]).multinomial(count, np.full(count, 1 / count), size=draws)
    return ((chosen @ hits) * examples).sum(axis=1) / (count * total), float(hits.mean())


def _middle(values: np.ndarray) -> tuple[float, float]:
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)


def _require_runs(*methods: Sequence[str]) -> None:
    lengths = {len(run) for runs in methods for run in runs}
    texts = any(isinstance(runs, str) for runs in methods)
    if len(lengths) != 1 or 0 in lengths or texts or not all(len(runs) for runs in methods):
        found = "a single text" if texts else f"{', '.join(map(str, sorted(lengths))) or 'no'} examples"
        raise LabkitError(
            f"The runs have {found}, so they cannot be compared in pairs.",
            'Compare lists of runs of the same model and task, such as ["0110", "1110"].',
        )
