"""How many examples of one quality teach as much as a number of another: lines of equal accuracy.

Between the amounts that were run, accuracy is interpolated over the logarithm of the amount. More data of one quality
are taken to do no harm: each curve is made to rise by isotonic regression (Barlow et al., 1972).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from labkit.errors import LabkitError, require_count, require_seed, unknown
from labkit.evaluation.bootstrap import MOST_DRAWS, over_examples, over_runs
from labkit.evaluation.outcomes import Outcomes, Runs

if TYPE_CHECKING:
    from pandas import DataFrame


@dataclass(frozen=True)
class Equal:
    """The amount of one quality that is as accurate as an amount of another.

    Attributes:
        amount: of examples; infinite if the curve never gets there, 0 if its first point is there already.
        interval: 95% interval of it over other seeds and other test examples, with such bounds as well.
        span: the smallest and largest amounts that were run.
    """

    amount: float
    interval: tuple[float, float]
    span: tuple[float, float]

    def __str__(self) -> str:
        low, high = map(self._bound, self.interval)
        return f"{self._bound(self.amount)} (95% interval {low} to {high})"

    def _bound(self, amount: float) -> str:
        if math.isinf(amount):
            return f"more than {self.span[1]:,.0f}"
        return f"{amount:,.0f}" if amount else f"at most {self.span[0]:,.0f}"


def equal_amount(
    reference: Mapping[float, Runs], other: Mapping[float, Runs], at: float, *, draws: int = 2000, seed: int = 0
) -> Equal:
    """Return how many examples of ``other`` are as accurate as ``at`` examples of ``reference``.

    Args:
        reference, other: the runs of each amount, as ``lk.compare`` takes them, all of the same test examples.
        at: an amount of ``reference`` within those that were run.
        draws, seed: of the bootstrap, which draws test examples for both curves at once, and other seeds.

    Raises:
        LabkitError: too few amounts, ``at`` outside them, or runs that cannot be compared example by example.
    """
    draws, seed = require_count("draws", draws, high=MOST_DRAWS), require_seed(seed)
    amounts = [sorted(curve) for curve in (reference, other)]
    if min(map(len, amounts)) < 2 or min(map(min, amounts)) <= 0:
        raise LabkitError("A curve needs two amounts or more, above 0.", "Pass runs of several amounts.")
    if not amounts[0][0] <= at <= amounts[0][-1]:
        raise LabkitError(f"No run has {at:,} examples or more and fewer.", f"Choose at from {amounts[0]}.")
    runs = [curve[n] for curve, ns in zip((reference, other), amounts, strict=True) for n in ns]
    outcomes = [Outcomes.of("a curve", one) for one in runs]
    cells = [found.hits for found in outcomes if found.hits is not None]
    if len(cells) < len(runs) or len({cell.shape[1] for cell in cells}) > 1:
        raise LabkitError("The runs have no hits of the same test examples.", "Pass rows of lk.results with hits.")
    means = np.array([[cell.mean() for cell in cells]])
    drawn = np.stack(over_examples(cells, draws, seed), axis=1)
    drawn = drawn + np.stack([over_runs([cell], draws, seed + 1 + i) for i, cell in enumerate(cells)], axis=1)
    found = [_equal(values, amounts, at) for values in (means, drawn)]
    ordered = np.sort(found[1])  # no means of two draws: a draw may be infinite
    low, high = ordered[int(0.025 * (draws - 1))], ordered[math.ceil(0.975 * (draws - 1))]
    return Equal(float(found[0][0]), (float(low), float(high)), (amounts[1][0], amounts[1][-1]))


def isolines(
    rows: DataFrame, at: float = 1000, *, by: str = "data.noise", x: str = "data.amount"
) -> dict[float, Equal]:
    """Return, for each noise of a sweep's rows, how many examples are as accurate as ``at`` of the least noise.

    Args:
        rows: of ``lk.results("data-quality")``, of which only amount and noise differ.
        at: amount of the least noise.
        by, x: columns of the noise and of the amount.
    """
    if missing := [name for name in (by, x) if name not in rows]:
        raise unknown("column", missing[0], map(str, rows.columns))
    curves = {}
    for noise in map(float, rows[by].unique()):
        own = rows[rows[by] == noise]
        curves[noise] = {float(n): own[own[x] == n] for n in own[x].unique()}
    first, *others = sorted(curves)
    return {noise: equal_amount(curves[first], curves[noise], at) for noise in others}


def rising(values: np.ndarray) -> np.ndarray:
    """Return the nearest curves, by least squares, that never fall: shape (curves, points), as given.

    Each point is the highest, over where a stretch begins, of the lowest mean, over where it ends, of the stretches
    around it.
    """
    count = values.shape[1]
    sums = np.cumsum(np.pad(values, ((0, 0), (1, 0))), axis=1)

    def mean(i: int, j: int) -> np.ndarray:
        return (sums[:, j + 1] - sums[:, i]) / (j + 1 - i)

    def point(k: int) -> np.ndarray:
        return np.max([np.min([mean(i, j) for j in range(k, count)], axis=0) for i in range(k + 1)], axis=0)

    return np.stack([point(k) for k in range(count)], axis=1)


def _equal(values: np.ndarray, amounts: Sequence[Sequence[float]], at: float) -> np.ndarray:
    split = len(amounts[0])
    wanted = [float(np.interp(math.log(at), np.log(amounts[0]), curve)) for curve in rising(values[:, :split])]
    logs, curves = np.log(amounts[1]), rising(values[:, split:])
    return np.array([_reached(logs, curve, goal) for curve, goal in zip(curves, wanted, strict=True)])


def _reached(logs: np.ndarray, curve: np.ndarray, goal: float) -> float:
    """Return the amount at which a rising curve first reaches an accuracy."""
    after = int(np.searchsorted(curve, goal - 1e-12))
    if after in (0, len(curve)):
        return 0.0 if after == 0 else math.inf
    share = (goal - curve[after - 1]) / (curve[after] - curve[after - 1])
    return math.exp(logs[after - 1] + min(1.0, share) * (logs[after] - logs[after - 1]))
