import itertools
import math

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.colors import to_rgb
from matplotlib.text import Text

import labkit as lk
from labkit.display.pareto import front

matplotlib.use("Agg")

ROWS = pd.DataFrame(
    [
        ("full", 800, 0.90),
        ("LoRA", 90, 0.80),
        ("head", 1, 0.50),
        ("LoRA", 110, 0.90),
        ("full", 1000, 0.80),
        ("LoRA", 100, 0.88),
        ("IA3", 10, 0.70),
    ],
    columns=["label", "bytes", "accuracy"],
)
MEANS = {"full": (900, 85), "LoRA": (100, 86), "head": (1, 50), "IA3": (10, 70)}


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


def draw(rows=ROWS, **settings):
    return lk.plots.pareto(rows, "bytes", "label", xlabel="size (bytes)", **settings)


def brute_force(costs, gains):
    """Leave out each point that another one, which differs from it, is nowhere worse than."""
    points = list(zip(costs, gains, strict=True))
    beaten = {a for a in points for b in points if a != b and b[0] <= a[0] and b[1] >= a[1]}
    return [point not in beaten for point in points]


def test_the_front_is_what_no_other_point_beats():
    for values in [2, 3, 5, 1000]:
        rng = np.random.default_rng(values)
        for count in range(1, 30):
            costs, gains = rng.integers(values, size=(2, count)).tolist()
            assert front(costs, gains) == brute_force(costs, gains)


def test_ties_are_beaten_by_what_is_better_in_one_way():
    for costs, gains, expected in [
        ([], [], []),
        ([3], [1], [True]),
        ([1, 2, 3], [1, 2, 3], [True, True, True]),
        ([1, 2, 3], [3, 2, 1], [True, False, False]),
        ([1, 1], [2, 3], [False, True]),
        ([1, 2], [3, 3], [True, False]),
        ([2, 2, 9], [3, 3, 3], [True, True, False]),
    ]:
        assert front(costs, gains) == expected


def test_costs_without_gains_are_no_points():
    with pytest.raises(ValueError, match="shorter"):
        front([1, 2], [1])


def test_a_methods_point_is_its_mean():
    ax = draw()
    assert {text.get_text(): text.xy for text in ax.texts} == {
        name: pytest.approx(point) for name, point in MEANS.items()
    }
    drawn = [container.lines[0].get_xydata()[0] for container in ax.containers]
    np.testing.assert_allclose(drawn, list(MEANS.values()))


def faces(ax):
    """Return whether the point of each method is filled."""
    points = {tuple(c.lines[0].get_xydata()[0]): c.lines[0] for c in ax.containers}
    return {text.get_text(): to_rgb(points[text.xy].get_markerfacecolor()) != (1, 1, 1) for text in ax.texts}


def test_points_on_the_front_are_filled():
    ax = draw()
    assert {name for name, filled in faces(ax).items() if filled} == {"LoRA", "head", "IA3"}
    assert lk.plots.alt_text(ax).endswith(
        "On the Pareto front: head 50.0 at 1; IA3 70.0 at 10; LoRA 86.0 at 100. Beaten: full."
    )


def test_a_line_of_steps_joins_the_front():
    line = draw().lines[0]
    np.testing.assert_allclose(line.get_xydata(), [(1, 50), (10, 70), (100, 86)])
    assert line.get_drawstyle() == "steps-post"  # between two methods, one has the accuracy of the cheaper one


def test_bars_reach_from_the_lowest_run_to_the_highest():
    for name, costs, gains in [
        ("full", (800, 1000), (80, 90)),
        ("LoRA", (90, 110), (80, 90)),
        ("head", (1, 1), (50, 50)),
    ]:
        along, up = draw().containers[list(MEANS).index(name)].lines[2]
        (xs,), (ys,) = along.get_segments(), up.get_segments()
        x, y = MEANS[name]
        np.testing.assert_allclose(xs, [(costs[0], y), (costs[1], y)])
        np.testing.assert_allclose(ys, [(x, gains[0]), (x, gains[1])])


def test_axes_are_labelled_with_units():
    ax = draw()
    assert ax.get_xlabel() == "size (bytes)"
    assert ax.get_ylabel() == "accuracy (%): mean, lowest and highest seed"


def test_costs_have_powers_of_ten_unless_told_otherwise():
    for settings, scale in [({}, "log"), ({"log": False}, "linear")]:
        assert draw(**settings).get_xscale() == scale


def test_the_rows_stay_as_they_were():
    rows = ROWS.copy()
    draw(rows)
    pd.testing.assert_frame_equal(rows, ROWS)


def test_a_figure_can_be_drawn_where_one_likes():
    figure, axes = plt.subplots(2)
    assert draw(ax=axes[1]) is axes[1]
    assert not axes[0].has_data()
    assert plt.get_fignums() == [figure.number]


def test_what_has_no_cost_is_not_on_the_front():
    assert front([1, math.nan, 2], [0.5, 0.4, 0.6]) == [True, False, True]
    rows = pd.DataFrame({"label": ["IA3", "prefix"], "bytes": [1.0, None], "accuracy": [0.8, 0.7]})
    assert faces(draw(rows)) == {"IA3": True}


def test_names_of_points_close_together_do_not_cover_one_another():
    for log, count in itertools.product([True, False], [3, 10]):
        near = [
            {"name": f"method {i}", "cost": 10 + i / 10, "accuracy": 0.5 + i % 3 / 1000 + i / 5000}
            for i in range(count)
        ]
        rows = pd.DataFrame([{"name": "far", "cost": 1.0, "accuracy": 0.1}, *near])
        _, axes = plt.subplots(1, 2, figsize=(12, 4.5), layout="constrained")
        ax = lk.plots.pareto(rows, "cost", "name", xlabel="cost", log=log, ax=axes[1])
        ax.figure.canvas.draw()
        boxes = [Text.get_window_extent(text) for text in ax.texts]  # without the lines that lead to them
        assert not any(one.overlaps(other) for i, one in enumerate(boxes) for other in boxes[:i])
        plt.close(ax.figure)
