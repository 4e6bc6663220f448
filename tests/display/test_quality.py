"""Accuracy over the amount of data, and equal amounts: what is drawn are the rows' own numbers."""

import math

import pandas as pd
import pytest

import labkit as lk
from labkit.comparisons.isolines import Equal


def test_a_curve_goes_through_the_means_and_says_its_interval():
    rows = pd.DataFrame(
        [
            {"data.amount": n, "data.noise": noise, "hits": "1" * right + "0" * (20 - right), "accuracy": right / 20}
            for noise, rights in ((0.0, (10, 12, 18)), (0.4, (6, 7, 8)))
            for n, right in zip((30, 30, 100), rights, strict=True)
        ]
    )
    ax = lk.plots.amounts(rows)
    drawn = {line.get_label(): list(line.get_ydata()) for line in ax.lines}
    assert drawn == {"0% wrong": pytest.approx([55, 90]), "40% wrong": pytest.approx([32.5, 40])}
    low, high = (100 * bound for bound in lk.evaluation.bootstrap_interval(["1" * 18 + "00"]))
    assert f"0% wrong from 55 at 30 to 90 at 100 (there {low:.1f} to {high:.1f})" in lk.plots.alt_text(ax)
    assert [label.get_text() for label in ax.get_xticklabels()] == ["30", "100"]


def test_what_lies_beyond_the_runs_is_an_arrow_and_no_number():
    known, beyond = Equal(1500.0, (1200.0, 2000.0), (30, 3000)), Equal(math.inf, (2500.0, math.inf), (30, 3000))
    ax = lk.plots.worth({"some": known, "more": beyond}, 1000)
    marks = [(line.get_marker(), float(line.get_xdata()[0]), line.get_ydata()[0]) for line in ax.lines[:2]]
    assert marks[0][1:] == (1500, 0)
    assert marks[1] == (">", 3000, 1)
    assert "more: more than 3,000 (95% interval 2,500 to more than 3,000)" in lk.plots.alt_text(ax)
    with pytest.raises(lk.LabkitError, match="no amounts"):
        lk.plots.worth({}, 1000)
