"""Accuracy and calibration of a reward model, from margins whose right answers are known."""

import math

import numpy as np
import pytest

from labkit.evaluation.pairs import PairScores
from labkit.evaluation.proportions import wilson
from labkit.evaluation.results import score


def scores(margins):
    hits = [margin > 0 for margin in margins]
    return PairScores(score(hits, ["pairs"] * len(hits), ["pairs"], []), list(margins))


def test_bins_hold_every_pair_once():
    rng = np.random.default_rng(0)
    margins = rng.normal(0.5, 2, 300)
    found = scores(margins).bins(4)
    assert found.pairs.sum() == 300
    certainty = 1 / (1 + np.exp(-np.abs(margins)))
    for row in found.itertuples():
        here = (certainty >= row.low) & (certainty < row.high)
        assert row.pairs == here.sum()
        assert row.share == pytest.approx((margins[here] > 0).mean())
        assert row.certainty == pytest.approx(certainty[here].mean())
        assert (row.share_low, row.share_high) == wilson((margins[here] > 0).sum(), here.sum())


def test_pairs_won_as_often_as_promised_are_calibrated():
    rng = np.random.default_rng(1)
    differences = rng.normal(0, 2, 40_000)
    won = rng.random(40_000) < 1 / (1 + np.exp(-differences))
    margins = np.where(won, differences, -differences)  # the winner is the chosen one
    assert scores(margins).calibration_error() < 0.01
    assert scores(3 * margins).calibration_error() > 0.05  # too sure
    assert scores(0.1 * margins).calibration_error() > 0.05  # too modest


def test_the_ends_of_certainty_and_ties():
    found = scores([0.0, 100.0, -100.0])
    assert found.accuracy.correct == 1  # a tie is not won
    assert found.bins(2).values.tolist() == [
        pytest.approx([0.5, 0.75, 1, 0.5, 0, *wilson(0, 1)]),
        pytest.approx([0.75, 1.0, 2, 1.0, 0.5, *wilson(1, 2)]),
    ]
    assert found.calibration_error(2) == pytest.approx((0.5 + 2 * 0.5) / 3)
    assert not math.isnan(scores([0.3]).calibration_error())
