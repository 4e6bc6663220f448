"""Whether one method is better than another, or only looks so: the one rule of the course.

Accuracies differ between test sets and between seeds. So the rule draws test examples and runs again and again, with
replacement, and looks at how the difference varies (Efron and Tibshirani, 1993, An Introduction to the Bootstrap,
chapters 8 and 16). Among many comparisons some differ by chance: a table of them is corrected (Holm, 1979, Scandinavian
Journal of Statistics 6, 65–70).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import TYPE_CHECKING, overload

import numpy as np

from labkit.errors import LabkitError, require_count, require_seed
from labkit.evaluation.outcomes import Outcomes, Runs
from labkit.evaluation.results import wilson

if TYPE_CHECKING:
    from pandas import DataFrame

LEVEL = 0.05  # how often two equal methods may be told apart
DRAWS = 20_000  # so that p can be as small as 0.05/500: the correction of 66 pairs asks for 0.05/66
MOST_DRAWS = 10**6  # more change no digit that is shown
CHUNK = 1000  # draws at once, for the memory that they take


@dataclass(frozen=True)
class Comparison:
    """How much more accurate one method is than another.

    Attributes:
        difference: of their accuracies, as a fraction.
        interval: 95% interval of it.
        p: how often a difference at least so large would be found between equal methods.
        runs: how many runs (seeds) each method has.
        paired: whether they were compared example by example.
    """

    difference: float
    interval: tuple[float, float]
    p: float
    runs: tuple[int, int]
    paired: bool

    @property
    def verdict(self) -> str:
        """``"better"``, ``"worse"`` or ``"undecided"``: what the data say of the first method."""
        if self.p > LEVEL:
            return "undecided"
        return "better" if self.difference > 0 else "worse"

    def __str__(self) -> str:
        low, high = (100 * bound for bound in self.interval)
        text = f"{100 * self.difference:+.1f} points, 95% interval {low:+.1f} to {high:+.1f}: {self.verdict}"
        if not self.paired:
            return f"{text} (not paired: no hits per example)"
        return text if min(self.runs) > 1 else f"{text} (with one run, other seeds are left out of account)"


@overload
def compare(first: Mapping[str, Runs], *, draws: int = ..., seed: int = ...) -> DataFrame: ...
@overload
def compare(first: Runs, second: Runs, *, draws: int = ..., seed: int = ...) -> Comparison: ...
def compare(
    first: Mapping[str, Runs] | Runs, second: Runs | None = None, *, draws: int = DRAWS, seed: int = 0
) -> Comparison | DataFrame:
    """Compare two methods, or every pair of several, on the same test examples.

    A method is given by its runs, one for each seed: what ``lk.evaluate`` returned, or rows of ``lk.results``. Some
    examples are hard for everyone, so methods are compared example by example. Where a table has no ``hits`` for each
    example, such as one from a paper, the difference of two proportions stands in (Newcombe, 1998, Statistics in
    Medicine 17, 873–890, method 10): it cannot pair examples and does not see how seeds differ.

    Args:
        first, second: the runs of two methods; or in place of both, runs by name, to compare every pair. The p of a
            table is corrected for the number of pairs, and the intervals are not.
        draws: of examples and runs.
        seed: of the draws.

    Raises:
        LabkitError: the runs are not of the same examples.
    """
    draws, seed = require_count("draws", draws, high=MOST_DRAWS), require_seed(seed)
    if isinstance(first, Mapping):
        if len(first) > 1 and second is None:
            methods = [Outcomes.of(name, runs) for name, runs in first.items()]
            return _table(list(first), _comparisons(methods, draws, seed))
    elif second is not None:
        pair = Outcomes.of("the first method", first), Outcomes.of("the second method", second)
        return _comparisons(pair, draws, seed)[0]
    raise LabkitError(
        "Two methods are compared, or several by name.",
        'Pass the runs of two, or of several in a dictionary: {"LoRA": runs, "full": others}.',
    )


def bootstrap_interval(runs: Runs, *, draws: int = 2000, seed: int = 0) -> tuple[float, float]:
    """Return the 95% interval of a method's accuracy over other seeds and other test examples, as fractions."""
    draws, seed = require_count("draws", draws, high=MOST_DRAWS), require_seed(seed)
    found = Outcomes.of("the method", runs)
    if found.hits is None:
        return wilson(found.accuracy * found.total, found.total)
    return _middle(_resampled([found.hits], draws, seed)[0])


def _comparisons(methods: Sequence[Outcomes], draws: int, seed: int) -> list[Comparison]:
    """Return the comparison of every pair, in the order of ``itertools.combinations``."""
    hits = [method.hits for method in methods if method.hits is not None]
    if len(hits) < len(methods):
        return [_unpaired(one, other) for one, other in combinations(methods, 2)]
    if len(totals := sorted({method.total for method in methods})) > 1:
        raise LabkitError(
            f"The runs have {', '.join(map(str, totals))} test examples: they cannot be compared one by one.",
            "Compare runs of the same model and task.",
        )
    sampled = _resampled(hits, draws, seed)
    found = []
    for (one, drawn), (other, others) in combinations(zip(methods, sampled, strict=True), 2):
        differences = drawn - others
        tail = min(np.count_nonzero(differences <= 0), np.count_nonzero(differences >= 0))
        p = min(1.0, 2 * (tail + 1) / (draws + 1))  # the data themselves count as one draw
        runs = one.count, other.count
        found.append(Comparison(one.accuracy - other.accuracy, _middle(differences), p, runs, paired=True))
    return found


def _resampled(methods: Sequence[np.ndarray], draws: int, seed: int) -> list[np.ndarray]:
    """Return each method's accuracy in each draw. All share the draws of examples; each has its own of runs."""
    total = methods[0].shape[1]
    of_examples, of_runs = (
        np.random.default_rng(seed),
        [np.random.default_rng([seed, i + 1]) for i in range(len(methods))],
    )
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


def _unpaired(one: Outcomes, other: Outcomes) -> Comparison:
    """Compare two proportions; several runs on one test set count as one test set."""
    first, second = one.accuracy, other.accuracy
    (low, high), (lower, higher) = (wilson(each.accuracy * each.total, each.total) for each in (one, other))
    difference = first - second
    interval = (
        difference - math.hypot(first - low, higher - second),
        difference + math.hypot(high - first, second - lower),
    )
    pooled = (first * one.total + second * other.total) / (one.total + other.total)
    error = math.sqrt(pooled * (1 - pooled) * (1 / one.total + 1 / other.total))
    p = math.erfc(abs(difference) / error / math.sqrt(2)) if error else 1.0
    return Comparison(difference, interval, p, (one.count, other.count), paired=False)


def _middle(values: np.ndarray) -> tuple[float, float]:
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)


def holm(ps: Sequence[float]) -> list[float]:
    """Return p values corrected by Holm's step-down rule: 5% for the chance of one false verdict or more."""
    corrected, largest = [0.0] * len(ps), 0.0
    for rank, index in enumerate(sorted(range(len(ps)), key=ps.__getitem__)):
        largest = corrected[index] = max(largest, min(1.0, (len(ps) - rank) * ps[index]))
    return corrected


def _table(names: Sequence[str], comparisons: Sequence[Comparison]) -> DataFrame:
    import pandas as pd

    corrected = [replace(each, p=p) for each, p in zip(comparisons, holm([c.p for c in comparisons]), strict=True)]
    rows = [
        (one, other, 100 * each.difference, 100 * each.interval[0], 100 * each.interval[1], each.p, each.verdict)
        for (one, other), each in zip(combinations(names, 2), corrected, strict=True)
    ]
    columns = ["first", "second", "points", "low", "high", "p (Holm)", "verdict"]
    return pd.DataFrame(rows, columns=columns).round({"points": 1, "low": 1, "high": 1, "p (Holm)": 4})
