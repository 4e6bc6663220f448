import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.colors import to_rgba

import labkit as lk

matplotlib.use("Agg")

RUNS = {1: (0.70, 0.73, 0.79), 4: (0.80, 0.81), 64: (0.90, 0.88)}
NUMBERS = pd.DataFrame([{"rank": rank, "accuracy": each} for rank in (64, 1, 4) for each in RUNS[rank]])
WORDS = pd.DataFrame(
    [{"layers": word, "accuracy": each} for word, pair in (("mlp", (0.5, 0.6)), ("all", (0.8, 0.9))) for each in pair]
)


def grouped(count):
    """Three runs at each of two values of x for groups that come in descending order."""
    return pd.DataFrame(
        [
            {"name": f"group {n}", "rate": rate, "seed": seed, "accuracy": 0.1 * n + rate + seed / 100}
            for n in reversed(range(count))
            for rate in (0.01, 0.001)
            for seed in range(3)
        ]
    )


TABLE = pd.DataFrame(
    [("lora", "full", 1.5, -0.5, 3.5, 0.3, "undecided"), ("ia3", "full", -4.0, -6.0, -2.0, 0.01, "worse")],
    columns=["first", "second", "points", "low", "high", "p (Holm)", "verdict"],
)


def dots(collection):
    return [tuple(point) for point in collection.get_offsets()]


def line(artist):
    return list(zip(artist.get_xdata(orig=False), artist.get_ydata(orig=False), strict=True))


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


def test_each_run_is_a_dot_and_the_line_is_their_mean():
    ax = lk.plots.sweep(NUMBERS, "rank", xlabel="rank")
    assert len(ax.lines) == len(ax.collections) == 1
    expected = [(rank, 100 * each) for rank in (64, 1, 4) for each in RUNS[rank]]
    np.testing.assert_allclose(dots(ax.collections[0]), expected)
    np.testing.assert_allclose(line(ax.lines[0]), [(1, 74), (4, 80.5), (64, 89)])


def test_numbers_stand_on_a_scale_of_powers_with_a_tick_each():
    for values, base, labels in [
        ((8, 1, 64, 4), 2, ["1", "4", "8", "64"]),
        ((0.003, 0.0001, 0.01), 10, ["0.0001", "0.003", "0.01"]),
        ((0.5, 2.0, 16.0), 10, ["0.5", "2", "16"]),
        ((2.5,), 2, ["2.5"]),
    ]:
        ax = lk.plots.sweep(pd.DataFrame({"x": values * 2, "accuracy": 0.5}), "x", xlabel="x")
        ax.figure.canvas.draw()
        assert (ax.get_xscale(), ax.xaxis.get_transform().base) == ("log", base)
        assert list(ax.get_xticks()) == sorted(values)
        assert [tick.get_text() for tick in ax.get_xticklabels()] == labels
        assert not len(ax.get_xticks(minor=True))


def test_words_stand_in_the_order_of_the_rows():
    ax = lk.plots.sweep(WORDS, "layers", xlabel="adapted layers")
    ax.figure.canvas.draw()
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["mlp", "all"]
    assert ax.get_xscale() == "linear"
    np.testing.assert_allclose(dots(ax.collections[0]), [(0, 50), (0, 60), (1, 80), (1, 90)])
    np.testing.assert_allclose(line(ax.lines[0]), [(0, 55), (1, 85)])


def test_words_stand_in_the_order_of_the_rows_also_where_the_first_group_has_another():
    rows = pd.DataFrame({"x": ["q", "p", "p", "q"], "name": ["b", "b", "a", "a"], "accuracy": 0.5})
    ax = lk.plots.sweep(rows, "x", "name", xlabel="x")
    ax.figure.canvas.draw()
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["q", "p"]


def test_each_group_has_its_curve():
    rows = grouped(3)
    ax = lk.plots.sweep(rows, "rate", "name", xlabel="learning rate")
    names = ["group 0", "group 1", "group 2"]
    assert [curve.get_label() for curve in ax.lines] == names
    assert [text.get_text() for text in ax.texts] == names
    for n, (curve, cloud) in enumerate(zip(ax.lines, ax.collections, strict=True)):
        np.testing.assert_allclose(line(curve), [(0.001, 10 * n + 1.1), (0.01, 10 * n + 2)])
        expected = [(rate, 10 * n + 100 * rate + seed) for rate in (0.01, 0.001) for seed in range(3)]
        np.testing.assert_allclose(dots(cloud), expected)


def test_axes_are_labelled_with_units():
    for rows, x, by in [(NUMBERS, "rank", None), (grouped(2), "rate", "name")]:
        ax = lk.plots.sweep(rows, x, by, xlabel="size (1)")
        assert (ax.get_xlabel(), ax.get_ylabel()) == ("size (1)", "accuracy (%), one dot a seed")
        assert len(ax.texts) == (0 if by is None else 2)


def test_a_single_curve_has_the_look_of_its_method():
    rows = lk.results("lora-alpha")
    ax = lk.plots.sweep(rows, "method.alpha", xlabel="alpha")
    assert ax.lines[0].get_color() == lk.plots.look_of("lora").ink
    ax = lk.plots.sweep(lk.results("qlora"), "name", xlabel="method")  # here, each word is a method
    names = ["full", "lora", "qlora"]
    assert [curve.get_color() for curve in ax.lines] == [lk.plots.look_of(name).ink for name in names]
    ax.figure.canvas.draw()
    assert [tick.get_text() for tick in ax.get_xticklabels()] == names


def test_names_of_curves_that_end_early_stand_at_their_best():
    rows = pd.DataFrame(
        {"name": ["a", "a", "b", "b"], "rate": [1e-4, 1e-3, 1e-3, 1e-2], "accuracy": [0.9, 0.1, 0.8, 0.1]}
    )
    ax = lk.plots.sweep(rows, "rate", "name", xlabel="learning rate")
    assert [text.xy for text in ax.texts] == [(1e-4, 90), (1e-3, 80)]


def test_a_figure_can_be_drawn_where_one_likes():
    figure, axes = plt.subplots(2)
    assert lk.plots.sweep(NUMBERS, "rank", xlabel="rank", ax=axes[1]) is axes[1]
    assert not axes[0].has_data()
    assert plt.get_fignums() == [figure.number]


def test_stored_results_can_be_drawn_and_summed_up():
    rows = lk.results("lora-rate")
    ax = lk.plots.sweep(rows, "learning_rate", "name", xlabel="learning rate")
    assert [curve.get_label() for curve in ax.lines] == ["full", "lora"]
    drawn = [y for cloud in ax.collections for _, y in dots(cloud)]
    assert sorted(drawn) == pytest.approx(sorted(100 * rows["correct"] / rows["total"]))
    assert lk.spread(rows, ["name", "learning_rate"])["runs"].sum() == len(rows)


def test_right_predictions_lie_on_the_diagonal():
    pairs = {"full": [(300_000_000, 300_000_000), (500_000_000, 510_000_000)], "LoRA": [(100_000_000, 99_000_000)]}
    ax = lk.plots.predictions(pairs)
    diagonal, full, lora = ax.lines
    np.testing.assert_array_equal(diagonal.get_xdata(), diagonal.get_ydata())
    assert list(full.get_xdata()) == [300, 500]
    assert list(full.get_ydata()) == [300, 510]
    assert list(lora.get_ydata()) == [99]
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
    assert "(MB)" in ax.get_xlabel()
    assert "(MB)" in ax.get_ylabel()
    assert full.get_marker() != lora.get_marker()
    plt.close("all")


def test_many_methods_can_still_be_told_apart():
    lines = lk.plots.predictions({str(n): [(n + 1, n + 1)] for n in range(10)}).lines[1:]
    assert len({(line.get_marker(), line.get_color()) for line in lines}) == 10
    plt.close("all")


def test_a_difference_is_drawn_with_its_interval_and_filled_where_it_is_decided():
    ax = lk.plots.differences(TABLE)
    zero, undecided, decided = ax.lines
    assert set(zero.get_xdata()) == {0}
    assert (line(undecided), line(decided)) == ([(1.5, 1)], [(-4.0, 0)])
    assert to_rgba(undecided.get_markerfacecolor())[:3] == (1, 1, 1)
    assert decided.get_markerfacecolor() == decided.get_color()
    colors = [to_rgba(color) for color in ax.collections[0].get_colors()]
    assert colors == [to_rgba(dot.get_color()) for dot in (undecided, decided)]
    assert [path[:, 0].tolist() for path in ax.collections[0].get_segments()] == [[-0.5, 3.5], [-6.0, -2.0]]
    names = {tick.get_text(): place for tick, place in zip(ax.get_yticklabels(), ax.get_yticks(), strict=True)}
    assert names == {"lora": 1, "ia3": 0}
    assert "minus that of full (points)" in ax.get_xlabel()
    assert lk.plots.alt_text(ax).endswith("Decided: ia3 -4.0 (-6.0 to -2.0). Undecided: lora +1.5.")
