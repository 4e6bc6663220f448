"""What is drawn, beside values by PEFT and by hand."""

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt
from peft.utils import merge_utils

import labkit as lk

matplotlib.use("Agg")

ONE, OTHER = [0.9, -0.6, 0.1, 0.7, -0.2, 0.05], [0.5, 0.8, -0.7, 0.1, -0.6, 0.1]
UPDATES = {"hospital": ONE, "law": OTHER}


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


def merged(ax):
    return ax.lines[0].get_ydata()


def heights(ax):
    """Heights and hatches of the bars, shape (updates, places)."""
    bars = np.array([bar.get_height() for bar in ax.patches]).reshape(2, -1)
    empty = np.array([bar.get_facecolor() == (1, 1, 1, 1) for bar in ax.patches]).reshape(2, -1)
    return bars, empty


def test_the_diamonds_are_what_peft_makes_of_the_updates():
    tensors, weights = [torch.tensor(ONE), torch.tensor(OTHER)], torch.tensor([1.0, 0.5])
    given = dict(zip(UPDATES, (tensors[0], OTHER), strict=True))
    linear, ties, dare = map(merged, lk.plots.merging(given, weights=[1, 0.5], density=0.5, seed=3))
    np.testing.assert_allclose(linear, merge_utils.task_arithmetic(tensors, weights))
    np.testing.assert_allclose(ties, merge_utils.ties(tensors, weights, 0.5, "frequency"), rtol=1e-6)
    torch.manual_seed(3)
    np.testing.assert_allclose(dare, merge_utils.dare_linear(tensors, weights, 0.5), rtol=1e-6)


def test_bars_are_what_a_way_uses_and_empty_ones_what_it_leaves_out():
    linear, ties, dare = lk.plots.merging(UPDATES, seed=3)
    bars, empty = heights(linear)
    np.testing.assert_allclose(bars, [ONE, OTHER])
    assert not empty.any()
    # By hand: the three largest of each stay, -0.6 and 0.8 disagree, and 0.8 is larger.
    bars, empty = heights(ties)
    np.testing.assert_allclose(bars, [ONE, OTHER])
    assert empty.tolist() == [[False, True, True, False, True, True], [True, False, False, True, False, True]]
    assert [bar.get_hatch() for bar in ties.patches][:2] == ["", "xxxx"]  # outvoted, not trimmed
    np.testing.assert_allclose(merged(ties), [0.9, 0.8, -0.7, 0.7, -0.6, 0], rtol=1e-6)
    bars, empty = heights(dare)
    assert 0 < empty.sum() < empty.size
    np.testing.assert_allclose(bars, np.where(empty, [ONE, OTHER], 2 * np.array([ONE, OTHER])), rtol=1e-6)
    np.testing.assert_allclose(merged(dare), np.where(empty, 0, bars).sum(0), rtol=1e-6)


def test_the_titles_and_words_say_what_is_done():
    axes = lk.plots.merging({"a": [1, -2, 3, 4]}, density=0.25)
    assert [ax.get_title() for ax in axes] == [
        "linear: the weighted sum",
        "TIES: trim to 25%, elect a sign, average those that have it",
        "DARE: drop 75% at random, multiply the others by 4",
    ]
    words = lk.plots.alt_text(axes[0].figure)
    assert (
        "linear: the weighted sum: Bars of each value that it uses: a 1, -2, 3, 4. Diamonds: merged: 1, -2, 3, 4."
        in words
    )
    assert "a 0, 0, 0, 4. Diamonds: merged: 0, 0, 0, 4." in words


def test_bad_input_is_named():
    for updates in ({}, [1.0], {"a": []}, {"a": [1], "b": [1, 2]}, {"a": ["x"]}, {"a": [float("nan")]}, {"a": 3}):
        with pytest.raises(lk.LabkitError):
            lk.plots.merging(updates)
    for settings in ({"weights": [1]}, {"weights": ["a", 1]}, {"density": 1.5}, {"weights": 1}):
        with pytest.raises(lk.LabkitError):
            lk.plots.merging(UPDATES, **settings)
