import re

import matplotlib
import pytest
from legible import faults
from matplotlib import pyplot as plt
from matplotlib.patches import Circle, FancyBboxPatch, Polygon

import labkit as lk

matplotlib.use("Agg")


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


def texts(ax):
    return [" ".join(text.get_text().split()) for text in ax.texts if text.get_text()]


def test_each_row_takes_its_path_and_the_counts_are_those_of_a_lora(tiny):
    layer = "model.layers.0.mlp.down_proj"
    weight = tiny.module.get_submodule(layer).weight
    trained = lk.LoRA(rank=3, target_modules=("down_proj",)).apply(tiny).trainable()
    count = sum(parameter.numel() for name, parameter in trained.items() if name.startswith(layer))
    ax = lk.plots.mixed_batch(weight.shape, 3, ("one", "other"), "A title")
    assert count > 0
    assert {f"{weight.shape[0]} × {weight.shape[1]} {weight.numel():,} numbers in memory once", "A title"} <= {
        *texts(ax)
    }
    assert {f"one: sB₁A₁, {count:,} numbers", f"other: sB₂A₂, {count:,} numbers"} <= {*texts(ax)}
    results = {"y₁ = Wx₁ + sB₁A₁x₁": "one", "y₂ = Wx₂": "base", "y₃ = Wx₃ + sB₂A₂x₃": "other"}
    heights = {" ".join(text.get_text().split()): text.get_position()[1] for text in ax.texts}
    words = lk.plots.alt_text(ax.figure)
    assert words.startswith("Diagram. A title. Three rows")
    for number, (result, name) in zip("₁₂₃", results.items(), strict=True):
        assert heights[result] == heights[f"x{number} for {name}"]
        assert f"x{number} takes {name}: {result}" in words
    joins = [patch.center[1] for patch in ax.patches if isinstance(patch, Circle)]
    assert joins == [heights["x₁ for one"], heights["x₃ for other"]]  # nothing is added to the base's row


@pytest.mark.parametrize("names", [("hospital", "law"), ("an adapter with a long name", "b")])
@pytest.mark.parametrize("shape", [(1, 1), (16384, 53248)])
def test_it_can_be_read_whatever_the_names_and_sizes(names, shape):
    ax = lk.plots.mixed_batch(shape, 64, names, "A title")
    assert faults(ax.figure, smallest=12) == []
    boxes = [patch.get_window_extent() for patch in ax.patches if isinstance(patch, FancyBboxPatch)]
    for text in ax.texts:
        if re.match("[xy].", text.get_text()):
            place = text.get_window_extent()
            (box,) = [box for box in boxes if box.overlaps(place)]
            assert box.x0 < place.x0 < place.x1 < box.x1


def test_paths_differ_without_colour_and_wide_ends_are_outside():
    ax = lk.plots.mixed_batch((4, 4), 2)
    assert len({line.get_linestyle() for line in ax.lines}) == 3
    for trapezoid in [patch for patch in ax.patches if isinstance(patch, Polygon) and len(patch.get_xy()) == 5]:
        (x, low), (_, high), (outer, top), (_, bottom) = trapezoid.get_xy()[:4]
        assert high - low < top - bottom
        assert (x - outer) * (1 if "A" in _within(ax, trapezoid) else -1) > 0


def _within(ax, patch):
    box = patch.get_window_extent()
    return next(t.get_text() for t in ax.texts if box.contains(*ax.transData.transform(t.get_position())))


def test_bad_input_is_named():
    for shape in (3, (3,), "ab", (2, 3, 4), (0, 3), (2.5, 3)):
        with pytest.raises(lk.LabkitError, match=r"shape is|must be a whole number"):
            lk.plots.mixed_batch(shape, 2)
    for names in ("ab", ("a",), ("a", "a"), ("a", ""), None, ("a", 3)):
        with pytest.raises(lk.LabkitError, match="adapters are"):
            lk.plots.mixed_batch((4, 4), 2, names)
