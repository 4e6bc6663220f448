from itertools import pairwise

import matplotlib
import numpy as np
import pytest
from matplotlib import pyplot as plt

import labkit as lk
from labkit.display import plots
from labkit.display.plots import accuracy, curves, history, memory, timeline
from labkit.evaluation import Evaluation, wilson
from labkit.memory import KINDS, MemoryReport

matplotlib.use("Agg")

HISTORY = [
    {"step": n, "loss": 3 / n + (n % 3) / 10, "learning_rate": 1e-4 * n} | ({"accuracy": n / 50} if n % 5 == 0 else {})
    for n in range(1, 41)
]
MB = 10**6
STEP = ((8, 9, 3, 5, 0, 0, 0, 0), (8, 9, 3, 5, 0, 6, 0, 1), (8, 9, 3, 5, 0, 6, 4, 2), (8, 9, 3, 5, 2, 1, 0, 1))
TIMELINE = tuple(tuple(40 * MB * n for n in moment) for moment in STEP)
PHASES = {"forward": 0, "loss": 2, "backward": 3}
REPORTS = {
    "full": MemoryReport(*(MB * n for n in (600, 100, 0, 500, 700, 300, 90, 40))),
    "QLoRA": MemoryReport(*TIMELINE[2], timeline=TIMELINE, phases=PHASES),
}
EVALUATIONS = {
    name: Evaluation(correct, 100, wilson(correct, 100), {"a": (correct, 100)}, [])
    for name, correct in (("before", 40), ("after", 85))
}
CURVES = {"small": ([1, 2, 3], [5.0, 4.0, 3.0]), "large": ([1, 2], [5.0, 2.0])}

DRAW = {
    "history": lambda ax=None: history(HISTORY, ax),
    "memory": lambda ax=None: memory(REPORTS, ax),
    "accuracy": lambda ax=None: accuracy(EVALUATIONS, 0.1, ax),
    "curves": lambda ax=None: curves(CURVES, "training examples", "loss (nats a token)", ax),
    "timeline": lambda ax=None: timeline(REPORTS["QLoRA"], ax),
}


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


def test_axes_are_labelled_with_units():
    for name, xlabel, ylabel in [
        ("history", "step", "loss (nats a token)"),
        ("memory", "memory at the peak of a step (MB)", ""),
        ("accuracy", "accuracy on the test set (%), with 95% interval", ""),
        ("curves", "training examples", "loss (nats a token)"),
        ("timeline", "progress of one step (% of allocations and releases)", "memory in use (MB)"),
    ]:
        ax = DRAW[name]()
        assert isinstance(ax, plt.Axes)
        assert (ax.get_xlabel(), ax.get_ylabel()) == (xlabel, ylabel)


def test_a_figure_can_be_drawn_where_one_likes():
    for draw in DRAW.values():
        figure, axes = plt.subplots(2)
        assert draw(axes[1]) is axes[1]
        assert axes[1].has_data()
        assert not axes[0].has_data()
        assert plt.get_fignums() == [figure.number]
        plt.close(figure)


def test_the_loss_is_drawn_with_its_running_mean():
    ax = history(HISTORY)
    losses = [row["loss"] for row in HISTORY]
    assert [list(line.get_xdata()) for line in ax.lines] == [list(range(1, 41))] * 2
    assert list(ax.lines[0].get_ydata()) == losses
    means = [np.mean(losses[max(0, end - 4) : end]) for end in range(1, 41)]
    np.testing.assert_allclose(ax.lines[1].get_ydata(), means)
    assert [text.get_text() for text in ax.texts] == ["each step", "mean of the last 4"]


def test_a_short_run_gets_no_running_mean():
    assert len(history(HISTORY[:10]).lines) == 1


def test_a_column_is_drawn_where_it_was_measured():
    ax = history(HISTORY, column="accuracy")
    assert list(ax.lines[0].get_xdata()) == [5, 10, 15, 20, 25, 30, 35, 40]
    assert list(ax.lines[0].get_ydata()) == [n / 50 for n in range(5, 41, 5)]
    assert history(HISTORY, column="learning_rate").get_ylabel() == "learning rate"


def test_an_unknown_column_names_the_nearest():
    with pytest.raises(lk.LabkitError, match=r"column called 'acuracy'.*\n.*'accuracy'.*learning_rate, loss, step"):
        history(HISTORY, column="acuracy")


def test_the_bars_of_a_report_add_up_to_its_peak():
    for unit, size in [("MB", 1e6), ("GB", 1e9)]:
        ax = memory(REPORTS, unit=unit)
        assert ax.get_xlabel() == f"memory at the peak of a step ({unit})"
        assert [container.get_label() for container in ax.containers] == list(KINDS)
        for row, (name, report) in enumerate(REPORTS.items()):
            bars = [container[row] for container in ax.containers]
            assert [bar.get_width() for bar in bars] == pytest.approx([getattr(report, kind) / size for kind in KINDS])
            assert sum(bar.get_width() for bar in bars) == pytest.approx(report.peak / size)
            for one, two in pairwise(bars):  # each begins where the last one ends
                assert two.get_x() == pytest.approx(one.get_x() + one.get_width())
            assert ax.get_yticklabels()[row].get_text() == name


def test_kinds_too_small_to_be_seen_are_left_out():
    shown = memory({"full": MemoryReport(trainable=1000, optimizer=2000, temporaries=5)})
    assert [container.get_label() for container in shown.containers] == ["trainable", "optimizer"]


def test_accuracies_have_their_intervals():
    ax = accuracy(EVALUATIONS, chance=0.1)
    assert [bar.get_width() for bar in ax.patches] == [40, 85]
    for line, evaluation in zip(ax.lines[::2], EVALUATIONS.values(), strict=False):
        assert list(line.get_xdata()) == [100 * bound for bound in evaluation.interval]
    assert set(ax.lines[-1].get_xdata()) == {10}
    assert [label.get_text() for label in ax.get_yticklabels()] == ["before", "after"]
    assert [text.get_text() for text in ax.texts] == ["40%", "85%", "guessing"]


def test_curves_differ_with_and_without_colour():
    names = "abcdef"
    ax = curves({name: ([0, 1], [n, n]) for n, name in enumerate(names)}, "x (s)", "y (m)")
    assert [line.get_label() for line in ax.lines] == [text.get_text() for text in ax.texts] == list(names)
    assert len({line.get_color() for line in ax.lines}) == len({line.get_marker() for line in ax.lines}) == len(names)


def test_means_have_bands():
    ax = curves(CURVES, "step", "loss", bands={"large": ([4.0, 1.0], [6.0, 3.0])})
    (band,) = ax.collections
    assert {tuple(point) for point in band.get_paths()[0].vertices} == {(1, 4), (1, 6), (2, 1), (2, 3)}
    assert plots.alt_text(ax).endswith("Bands, at their ends: large 1 to 3.")


def test_a_report_without_a_timeline_is_not_drawn():
    with pytest.raises(lk.LabkitError, match=r"holds only the peak of a step: saved runs and plans keep no timeline"):
        timeline(MemoryReport(frozen=5))


def test_a_timeline_stacks_the_kinds_of_memory():
    ax = timeline(REPORTS["QLoRA"])
    assert [area.get_label() for area in ax.collections] == list(KINDS)
    tops = [max(y for _, y in area.get_paths()[0].vertices) for area in ax.collections]
    totals = np.cumsum(TIMELINE, axis=1) / 1e6
    assert tops == pytest.approx(totals.max(axis=0))
    assert [(text.get_text(), line.get_xdata()[0]) for text, line in zip(ax.texts, ax.lines, strict=True)] == [
        ("forward", 0),
        ("loss", pytest.approx(200 / 3)),
        ("backward", 100),
    ]


def test_a_real_run_can_be_drawn(tiny, colours):
    run = lk.finetune(tiny, colours, steps=3, batch_size=4, progress=False)
    assert list(run.plot().lines[0].get_ydata()) == [row["loss"] for row in run.history]
    assert run.plot("grad_norm").get_ylabel() == "grad norm"
    tops = [max(y for _, y in area.get_paths()[0].vertices) for area in timeline(run.memory).collections]
    assert tops[-1] == pytest.approx(run.memory.peak / 1e6, rel=0.01)  # kinds too thin to be seen are left out
