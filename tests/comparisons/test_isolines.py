"""Equal amounts, on curves whose answer is known, and against scikit-learn's isotonic regression."""

import math

import numpy as np
import pandas as pd
import pytest

import labkit as lk
from labkit.comparisons.isolines import equal_amount, isolines, rising

AMOUNTS = (10, 100, 1000, 10_000)
TOTAL = 400


def runs(accuracy, seeds=3):
    """Runs that all get the same first test examples right."""
    right = round(accuracy * TOTAL)
    return ["1" * right + "0" * (TOTAL - right)] * seeds


def curve(value):
    return {n: runs(value(n)) for n in AMOUNTS}


def clean(n):
    return 0.2 + 0.2 * math.log10(n / 10)


@pytest.mark.parametrize("times", [1, 2, 5])
def test_noise_that_costs_a_factor_of_examples_is_found_as_that_factor(times):
    other = curve(lambda n: clean(n) - 0.2 * math.log10(times))
    found = equal_amount(curve(clean), other, 100)
    assert found.amount == pytest.approx(100 * times, rel=0.02)  # accuracies are whole examples
    assert found.interval[0] <= found.amount <= found.interval[1]


def test_a_curve_that_never_gets_there_has_more_than_its_largest_amount():
    found = equal_amount(curve(clean), curve(lambda n: 0.3), 1000)
    assert math.isinf(found.amount)
    assert str(found) == "more than 10,000 (95% interval more than 10,000 to more than 10,000)"
    below = equal_amount(curve(clean), curve(lambda n: 0.9), 1000)
    assert below.amount == 0
    assert str(below).startswith("at most 10 (")


def test_the_interval_covers_the_true_factor_as_often_as_it_says():
    dice = np.random.default_rng(0)
    covered = 0
    for i in range(60):
        samples = [
            {
                n: ["".join(map(str, (dice.random(TOTAL) < clean(n) - cost).astype(int))) for _ in range(3)]
                for n in AMOUNTS
            }
            for cost in (0, 0.2 * math.log10(3))
        ]
        low, high = equal_amount(*samples, 100, draws=300, seed=i).interval
        covered += low <= 300 <= high
    assert covered >= 52  # of 60: below that, 95% would give one in 100


def test_a_falling_curve_is_pooled_as_by_isotonic_regression():
    isotonic = pytest.importorskip("sklearn.isotonic")
    values = np.random.default_rng(1).random((50, 6))
    expected = [isotonic.isotonic_regression(row) for row in values]
    np.testing.assert_allclose(rising(values), expected)


def test_a_table_gives_one_answer_for_each_noise():
    rows = [
        {"data.noise": noise, "data.amount": n, "hits": hits, "correct": hits.count("1"), "total": TOTAL}
        for noise, cost in ((0.0, 0), (0.2, 0.04), (0.6, 0.5))
        for n in AMOUNTS
        for hits in runs(max(0, clean(n) - cost))
    ]
    found = isolines(pd.DataFrame(rows), 1000)
    assert [*found] == [0.2, 0.6]
    assert found[0.2].amount == pytest.approx(1000 * 10**0.2, rel=0.03)
    assert math.isinf(found[0.6].amount)


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (lambda one: equal_amount(one, one, 5), "No run has 5 examples"),
        (lambda one: equal_amount(one, {10: one[10]}, 100), "A curve needs two amounts"),
        (lambda one: equal_amount(one, one | {10: ["10"]}, 100), "The runs have no hits of the same test examples."),
        (lambda one: isolines(pd.DataFrame({"a": [1]})), "There is no column called 'data.noise'."),
    ],
)
def test_what_has_no_answer_is_refused(change, cause):
    with pytest.raises(lk.LabkitError) as caught:
        change(curve(clean))
    assert caught.value.cause.startswith(cause)
