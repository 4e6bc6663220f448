"""Every figure of lk.plots, with data that make it hard, can be read; and the finder of faults finds them."""

import math

import matplotlib
import pandas as pd
import pytest
import torch
from legible import faults
from matplotlib import pyplot as plt
from matplotlib.colors import to_rgb

import labkit as lk
from labkit.comparisons.isolines import Equal
from labkit.evaluation import Evaluation, wilson
from labkit.memory import MemoryReport
from labkit.quant.codebooks import levels

matplotlib.use("Agg")

MB = 10**6
LONG = [f"a method whose name somebody has made rather long {n}" for n in range(12)]
SHORT = ["full", "LoRA", "LoRA r=64", "DoRA", "QLoRA", "Houlsby", "Pfeiffer", "IA3", "prefix", "prompt", "head", "mine"]


def evaluation(correct, total=50):
    return Evaluation(correct, total, wilson(correct, total), {"a": (correct, total)}, [])


def runs(names, spread):
    """Three runs for each method at three rates, near one another unless spread."""
    return pd.DataFrame(
        [
            {"label": name, "rate": rate, "cost": 100 + spread * place + seed, "accuracy": min(1, place * spread / 11)}
            for place, name in enumerate(names)
            for rate in (1e-4, 3e-4, 1e-3)
            for seed in range(3)
        ]
    )


def qualities(spread):
    """Three runs at five amounts for each of five shares of wrong labels."""
    return pd.DataFrame(
        [
            {"data.amount": n, "data.noise": noise, "hits": "1" * right + "0" * (50 - right), "accuracy": right / 50}
            for noise in (0, 0.1, 0.2, 0.4, 0.6)
            for place, n in enumerate((30, 100, 300, 1000, 3000))
            for right in (round(20 + 6 * place * (1 - noise * spread)) + seed for seed in range(3))
        ]
    )


SPAN = (30, 5557)
WORTH = [
    Equal(1200, (900, 2000), SPAN),
    Equal(4000, (2500, math.inf), SPAN),
    Equal(math.inf, (math.inf, math.inf), SPAN),
    Equal(0, (0, 40), SPAN),
]


def table(names):
    rows = [(name, "full", -n, -n - 2.5, 1.5 - n, 0.1, ("undecided", "worse")[n % 2]) for n, name in enumerate(names)]
    return pd.DataFrame(rows, columns=["first", "second", "points", "low", "high", "p (Holm)", "verdict"])


def report(*moments, **phases):
    timeline = tuple(tuple(MB * size for size in moment) for moment in moments)
    return MemoryReport(*max(timeline, key=sum), timeline=timeline, phases=phases)


STEP = report(
    *[(500, 90, 0, 1000, 5 * t, 400 - abs(400 - 8 * t), 150 * (49 < t < 53), 30) for t in range(100)],
    forward=0,
    loss=49,
    backward=51,
    update=98,
)
CURVES = {name: (range(1, 10), [place / (1 + x) for x in range(9)]) for place, name in enumerate(SHORT)}
TASKS = {"xlabel": "accuracy on one (%)", "ylabel": "accuracy on the other (%)"}
HARD = {
    "accuracy": lambda: lk.plots.accuracy({n: evaluation(50 * (i % 2)) for i, n in enumerate(LONG)}, 0.02),
    "accuracy, few": lambda: lk.plots.accuracy({"before": evaluation(50)}, 0.99),
    "bars": lambda: lk.plots.bars({name: {"part": 0.0, "another": 1234.5} for name in LONG}, "size (MB)"),
    "bars, below zero": lambda: lk.plots.bars({n: {"a": -33.1, "b": 12} for n in SHORT}, "change (nats)"),
    "bars, one each": lambda: lk.plots.bars(dict.fromkeys(SHORT, 0.999), "time (s)", mark=1),
    "bars, logarithmic": lambda: lk.plots.bars({name: 10.0**n for n, name in enumerate(SHORT)}, "size (MB)", log=True),
    "bars, stacked": lambda: lk.plots.bars({n: {"a": 1.0, "b": 2} for n in SHORT}, "size (MB)", stacked=True),
    "columns": lambda: lk.plots.columns([1] * 16, "code", "share (%)", mark=1, name="all equal"),
    "curves": lambda: lk.plots.curves(CURVES, "step", "loss (nats a token)"),
    "curves, bands": lambda: lk.plots.curves(
        {"mean": ([1, 2, 3], [4, 5, 6])}, "rank r", "share (%)", bands={"mean": ([1, 2, 3], [7, 8, 9])}
    ),
    "curves, equal": lambda: lk.plots.curves({n: ([1, 2], [3, 3]) for n in SHORT}, "step", "loss (nats a token)"),
    "curves, long": lambda: lk.plots.curves({n: ([1], [5e6]) for n in LONG[:6]}, "step", "loss (nats a token)"),
    "differences": lambda: lk.plots.differences(table(LONG)),
    "errors": lambda: lk.plots.errors({n: [-90.0, 0.0, 0.1, 4000.0] for n in LONG[:4]}, "error (%)"),
    "grids": lambda: lk.plots.grids(torch.arange(256.0), {n: levels(n.lower()) for n in ("int4", "FP4", "NF4")})[0],
    "history": lambda: lk.plots.history([{"step": n, "loss": 1.0} for n in range(1, 100)]),
    "history, one": lambda: lk.plots.history([{"step": 1, "loss": 1e4}]),
    "memory": lambda: lk.plots.memory({name: STEP for name in LONG}),
    "memory, large": lambda: lk.plots.memory({"full": MemoryReport(10**12, *[10**11] * 7)}, unit="GB"),
    "merging": lambda: lk.plots.merging({name: [1.0, -2.0, 0.1] * 6 for name in SHORT[:4]})[0],
    "merging, one": lambda: lk.plots.merging({LONG[0]: [1e-9]}, density=0.01)[0],
    "pareto": lambda: lk.plots.pareto(runs(SHORT, 1), "cost", "label", xlabel="cost (s)"),
    "pareto, equal": lambda: lk.plots.pareto(runs(SHORT, 0), "cost", "label", xlabel="cost (s)", log=False),
    "pareto, long": lambda: lk.plots.pareto(runs(LONG[:6], 2), "cost", "label", xlabel="cost (s)"),
    "predictions": lambda: lk.plots.predictions({n: [(MB * (9 + i), MB * 10)] for i, n in enumerate(LONG)}),
    "amounts": lambda: lk.plots.amounts(qualities(1)),
    "amounts, equal": lambda: lk.plots.amounts(qualities(0)),
    "worth": lambda: lk.plots.worth(dict(zip(LONG, WORTH, strict=False)), 1000),
    "shares": lambda: lk.plots.shares({n: {"exact": evaluation(50), "ended": evaluation(0)} for n in SHORT[:4]}),
    "shares, long": lambda: lk.plots.shares({"before": {n: evaluation(50) for n in LONG}}),
    "sweep": lambda: lk.plots.sweep(runs(SHORT, 1), "rate", "label", xlabel="learning rate"),
    "sweep, equal": lambda: lk.plots.sweep(runs(SHORT, 0), "rate", "label", xlabel="learning rate"),
    "sweep, words": lambda: lk.plots.sweep(runs(SHORT[:6], 1), "label", xlabel="method"),
    "sweep, zoomed": lambda: lk.plots.sweep(runs(SHORT, 1), "rate", "label", xlabel="rate", limits=(60, 87)),
    "timeline": lambda: lk.plots.timeline(STEP),
    "tradeoff": lambda: lk.plots.tradeoff(
        {name: (0.01 * n, evaluation(50)) for n, name in enumerate(SHORT)}, xlabel="loss", before=evaluation(0)
    ),
    "two_tasks": lambda: lk.plots.two_tasks(runs(SHORT, 1).assign(other=0.5), "other", "accuracy", "label", **TASKS),
    "two_tasks, equal": lambda: lk.plots.two_tasks(
        runs(SHORT, 0).assign(other=1.0), "other", "accuracy", "label", goal=("full", "head"), **TASKS
    ),
    "two_tasks, long": lambda: lk.plots.two_tasks(
        runs(LONG[:6], 2).assign(other=lambda rows: 1 - rows["accuracy"]), "accuracy", "other", "label", **TASKS
    ),
}
DRAWINGS = {"block", "decisions", "diagram", "mixed_batch"}  # of concepts, not of data: they have tests of their own
NOT_DRAWN = {"Bar", "Box", "Cells", "Matrix", "alt_text", "describe", "figure", "look_of", "looks"}


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


def test_every_figure_is_looked_at():
    assert {name.split(",")[0] for name in HARD} == set(lk.plots.__all__) - DRAWINGS - NOT_DRAWN


@pytest.mark.parametrize("name", HARD)
def test_every_figure_can_be_read_and_heard_whatever_the_data(name):
    ax = HARD[name]()
    assert faults(ax.figure) == []
    if name.startswith(("accuracy", "pareto", "sweep", "tradeoff", "two_tasks")):
        low, high = ax.get_xlim() if name.startswith("accuracy") else ax.get_ylim()
        assert 0 <= low < high <= 100
    words = lk.plots.alt_text(ax.figure)
    assert len(words) > 40
    assert words.endswith(".")
    label = (ax.get_xlabel() or ax.get_ylabel()).split(" (")[0]
    assert label in words or name.startswith(("grids", "timeline"))


def test_figures_are_coloured_on_white(tmp_path):
    for name in ("bars, stacked", "curves", "memory", "pareto, long"):
        with plt.style.context("dark_background"):  # that of the reader, who isn't asked
            figure = HARD[name]().figure
            assert faults(figure) == []
            figure.savefig(tmp_path / "figure.png", dpi=60)
        pixels = plt.imread(tmp_path / "figure.png")
        assert (pixels[[0, -1, 0, -1], [0, 0, -1, -1]] == 1).all()  # opaque white
        assert (pixels[..., :3].max(axis=-1) - pixels[..., :3].min(axis=-1)).max() > 0.3


def bad(**what):
    figure, ax = lk.plots.figure()
    ax.set_xlabel("step")
    for kind, (args, settings) in what.items():
        getattr(ax, kind)(*args, **settings)
    return figure


@pytest.mark.parametrize(
    ("figure", "said"),
    [
        (lambda: bad(text=((0.5, 0.5, "small"), {"size": 7})), "'small' has 7"),
        (lambda: bad(text=((0.5, 0.5, "pale"), {"color": "0.6"})), "'pale' is 0.6"),
        (lambda: bad(text=((0.5, 0.5, "dark"), {"bbox": {"facecolor": "0.2"}})), "'dark' is"),
        (lambda: bad(text=((0.9, 0.5, "far too long for this"), {"in_layout": False})), "is cut off"),
        (lambda: bad(text=((0, -0.05, "stands on numbers"), {})), "covers"),
        (lambda: bad(plot=(([1, 2], [1, 2]), {"color": "#F0E442"})), "line"),
        (lambda: bad(set_xlabel=(("",), {})), "no label"),
    ],
)
def test_faults_are_found(figure, said):
    found = faults(figure())
    assert len(found) >= 1
    assert any(said in each for each in found)


def test_names_stand_at_the_ends_of_their_curves():
    ax = lk.plots.curves({"low": ([1, 2, 3], [0, 0, 1]), "high": ([1, 2, 3], [9, 9, 8])}, "step", "loss")
    ax.figure.canvas.draw()
    for text, y in zip(ax.texts, (1, 8), strict=True):
        box = text.get_window_extent()
        assert (box.y0 + box.y1) / 2 == pytest.approx(ax.transData.transform((0, y))[1], abs=3)
        assert text.get_position()[0] > 1
        line = next(line for line in ax.lines if line.get_label() == text.get_text())
        assert math.dist(to_rgb(text.get_color()), to_rgb(line.get_color())) < 0.5
    assert ax.get_legend() is None
