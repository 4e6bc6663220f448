"""Decide whether one method is better than another, or whether the difference may be chance.

Among many comparisons, some differ by chance: a table of them is corrected (Holm, 1979, Scandinavian Journal of
Statistics 6, 65–70). ``benchmarks/verdicts.py`` counts how often the rule tells equal methods apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import TYPE_CHECKING, overload

from labkit.errors import LabkitError, require_count, require_seed, unknown
from labkit.evaluation.bootstrap import MOST_DRAWS, chance_of, middle, over_examples, over_runs
from labkit.evaluation.outcomes import Outcomes, Runs
from labkit.evaluation.proportions import difference_of_proportions

if TYPE_CHECKING:
    from pandas import DataFrame

LEVEL = 0.05  # how often two equal methods may be told apart
DRAWS = 20_000  # so that p can be as small as 0.05/500: the correction of 66 pairs asks for 0.05/66


@dataclass(frozen=True)
class Comparison:
    """How much more accurate one method is than another.

    Attributes:
        difference: of their accuracies, as a fraction.
        interval: 95% interval of it.
        p: how often a difference at least as large would be found between equal methods.
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
        return text if min(self.runs) > 1 else f"{text} (a single run: what other seeds would give is not counted)"


@overload
def compare(first: Mapping[str, Runs], *, against: str = ..., draws: int = ..., seed: int = ...) -> DataFrame: ...
@overload
def compare(first: Runs, second: Runs, *, draws: int = ..., seed: int = ...) -> Comparison: ...
def compare(
    first: Mapping[str, Runs] | Runs,
    second: Runs | None = None,
    *,
    against: str = "",
    draws: int = DRAWS,
    seed: int = 0,
) -> Comparison | DataFrame:
    """Compare two methods, or every pair of several, on the same test examples.

    A method is given by its runs, one for each seed: what ``lk.evaluate`` returned, or rows of ``lk.results``. Some
    examples are hard for everyone, so methods are compared example by example; and seeds differ, so few runs decide
    less than many (see ``labkit.evaluation.bootstrap``). Where a table has no ``hits`` for each
    example, such as one from a paper, the difference of two proportions stands in (Newcombe, 1998, Statistics in
    Medicine 17, 873–890, method 10): it cannot pair examples and does not see how seeds differ.

    Args:
        first, second: the runs of two methods; or in place of both, runs by name, to compare every pair. The p of a
            table is corrected for the number of pairs, and the intervals are not.
        against: in a table, compare all others with this one alone. Fewer questions are answered with more certainty.
        draws: of examples, and of other seeds.
        seed: of the draws.

    Raises:
        LabkitError: the runs are not of the same examples.
    """
    draws, seed = require_count("draws", draws, high=MOST_DRAWS), require_seed(seed)
    if isinstance(first, Mapping):
        if len(first) > 1 and second is None:
            if against and against not in first:
                raise unknown("method", against, first)
            pairs = [pair for pair in combinations(first, 2) if not against or against in pair]
            # The others stand first: what is said of them is what they are against the one.
            pairs = [(b, a) if a == against else (a, b) for a, b in pairs]
            return _table(pairs, {name: Outcomes.of(name, runs) for name, runs in first.items()}, draws, seed)
    elif second is not None:
        methods = {"one": Outcomes.of("the first method", first), "two": Outcomes.of("the second method", second)}
        return _comparisons([("one", "two")], methods, draws, seed)[0]
    raise LabkitError(
        "Two methods are compared, or several by name.",
        'Pass the runs of two, or of several in a dictionary: {"LoRA": runs, "full": others}.',
    )


def _comparisons(
    pairs: Sequence[tuple[str, str]], methods: Mapping[str, Outcomes], draws: int, seed: int
) -> list[Comparison]:
    hits = {name: method.hits for name, method in methods.items() if method.hits is not None}
    if len(hits) < len(methods):
        return [_unpaired(methods[one], methods[other]) for one, other in pairs]
    if len(totals := sorted({method.total for method in methods.values()})) > 1:
        raise LabkitError(
            f"The runs have {', '.join(map(str, totals))} test examples: they cannot be compared one by one.",
            "Compare runs of the same model and task.",
        )
    sampled = dict(zip(hits, over_examples(list(hits.values()), draws, seed), strict=True))
    found = []
    for name, other in pairs:
        one, two = methods[name], methods[other]
        differences = sampled[name] - sampled[other] + over_runs([hits[name], hits[other]], draws, seed)
        interval, p = middle(differences), chance_of(differences)
        found.append(Comparison(one.accuracy - two.accuracy, interval, p, (one.count, two.count), paired=True))
    return found


def _unpaired(one: Outcomes, other: Outcomes) -> Comparison:
    """Compare two proportions; several runs on one test set count as one test set."""
    interval, p = difference_of_proportions(one.accuracy, one.total, other.accuracy, other.total)
    return Comparison(one.accuracy - other.accuracy, interval, p, (one.count, other.count), paired=False)


def holm(ps: Sequence[float]) -> list[float]:
    """Return p values corrected by Holm's step-down rule: 5% for the chance of one false verdict or more."""
    corrected, largest = [0.0] * len(ps), 0.0
    for rank, index in enumerate(sorted(range(len(ps)), key=ps.__getitem__)):
        largest = corrected[index] = max(largest, min(1.0, (len(ps) - rank) * ps[index]))
    return corrected


def _table(pairs: Sequence[tuple[str, str]], methods: Mapping[str, Outcomes], draws: int, seed: int) -> DataFrame:
    import pandas as pd

    found = _comparisons(pairs, methods, draws, seed)
    corrected = [replace(each, p=p) for each, p in zip(found, holm([each.p for each in found]), strict=True)]
    rows = [
        (*pair, 100 * each.difference, 100 * each.interval[0], 100 * each.interval[1], each.p, each.verdict)
        for pair, each in zip(pairs, corrected, strict=True)
    ]
    columns = ["first", "second", "points", "low", "high", "p (Holm)", "verdict"]
    return pd.DataFrame(rows, columns=columns).round({"points": 1, "low": 1, "high": 1, "p (Holm)": 4})
