import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.colors import to_rgb

import labkit as lk

matplotlib.use("Agg")

ROWS = pd.DataFrame(
    [
        ("base", 0.2, 0.1),
        ("hospital", 0.8, 0.2),
        ("hospital", 0.9, 0.1),
        ("law", 0.1, 0.9),
        ("TIES", 0.6, 0.5),
        ("TIES", 0.4, 0.7),
        ("linear", 0.45, 0.55),
        ("linear", None, 0.99),
    ],
    columns=["how", "triage", "licenses"],
)
MEANS = {"base": (20, 10), "hospital": (85, 15), "law": (10, 90), "TIES": (50, 60), "linear": (45, 55)}
LABELS = {"xlabel": "accuracy on triage (%)", "ylabel": "accuracy on licenses (%)"}


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


def draw(rows=ROWS, **settings):
    return lk.plots.two_tasks(rows, "triage", "licenses", "how", **LABELS | settings)


def test_points_are_means_and_bars_reach_to_the_lowest_and_highest_run():
    before = ROWS.copy()
    ax = draw()
    pd.testing.assert_frame_equal(ROWS, before)
    assert {text.get_text(): text.xy for text in ax.texts} == {n: pytest.approx(at) for n, at in MEANS.items()}
    for name, xs, ys in (("hospital", (80, 90), (10, 20)), ("TIES", (40, 60), (50, 70)), ("law", (10, 10), (90, 90))):
        point, _, (across, up) = ax.containers[list(MEANS).index(name)].lines
        np.testing.assert_allclose(point.get_xydata()[0], MEANS[name])
        np.testing.assert_allclose(across.get_segments()[0][:, 0], xs)
        np.testing.assert_allclose(up.get_segments()[0][:, 1], ys)


def test_points_that_none_beats_on_both_are_filled():
    ax = draw()
    faces = {tuple(c.lines[0].get_xydata()[0]): to_rgb(c.lines[0].get_markerfacecolor()) for c in ax.containers}
    assert {text.get_text() for text in ax.texts if faces[text.xy] != (1, 1, 1)} == {"hospital", "law", "TIES"}
    words = lk.plots.alt_text(ax)
    assert "base 10.0 at 20.0; hospital 15.0 at 85.0" in words
    assert words.endswith("Filled: hospital, law, TIES.")


def test_the_goal_is_marked_where_its_ways_are():
    ax = draw(goal=("hospital", "law"))
    upright, level = (line for line in ax.lines if line.get_linestyle() == ":")
    np.testing.assert_allclose(upright.get_xdata(), 85)
    np.testing.assert_allclose(level.get_ydata(), 90)
    assert lk.plots.alt_text(ax).endswith("Dotted lines mark hospital at 85.0 and law at 90.0.")


def test_equal_runs_have_no_bars():
    for value in np.random.default_rng(0).random(200):  # whose mean may round up
        draw(pd.DataFrame({"how": ["a"] * 7, "triage": [value] * 7, "licenses": [value] * 7}), ax=plt.gca())
        plt.gca().clear()


def test_bad_input_is_named():
    with pytest.raises(lk.LabkitError, match="no column called 'triage'"):
        draw(ROWS.drop(columns="triage"))
    with pytest.raises(lk.LabkitError, match=r"no way called 'lwa'.*\n.*'law'"):
        draw(goal=("hospital", "lwa"))
    with pytest.raises(lk.LabkitError, match="No row has triage and licenses"):
        draw(ROWS.assign(licenses=None))
