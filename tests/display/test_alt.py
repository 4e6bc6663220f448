"""The words of a figure, and how they reach a notebook: a kernel of its own runs cells as a learner would."""

import nbformat
import pytest
from matplotlib import pyplot as plt
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_notebook

import labkit as lk
from labkit.display.alt import course, number

CELLS = {
    "one": "_ = lk.plots.curves({'a': ([1, 2], [3, 4])}, 'step', 'loss (nats)')",
    "two": "figure, axes = lk.plots.figure(8, 3, columns=2)\n"
    "for ax, title in zip(axes, ('left', 'right')):\n"
    "    lk.plots.columns([1, 2], 'x', 'y (m)', ax=ax).set_title(title)",
    "own": "figure, ax = lk.plots.figure()\nax.plot([1, 2])\nlk.plots.describe(ax, 'A line that rises.')",
    "plain": "from matplotlib import pyplot as plt\n_ = plt.plot([1, 2])",
    "retina": "%config InlineBackend.figure_format = 'retina'\n_ = lk.plots.columns([1, 2], 'x', 'y (m)')",
    "printed": "%env LABKIT_ALT_TEXT=print\n_ = lk.plots.columns([1, 2], 'x', 'y (m)')",
}
COLUMNS = "Bar chart: y (m) over x. 1 at 0; 2 at 1."


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    cells = [new_code_cell("import labkit as lk"), *map(new_code_cell, CELLS.values())]
    notebook = new_notebook(cells=cells)
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": tmp_path_factory.mktemp("course")}}).execute()
    nbformat.validate(notebook)
    return dict(zip(CELLS, (cell.outputs for cell in notebook.cells[1:]), strict=True))


def metadata(outputs):
    (picture,) = [output for output in outputs if "image/png" in output.get("data", {})]
    return picture["metadata"].get("image/png", {}), picture["data"]["text/plain"]


def test_words_are_kept_with_the_picture(outputs):
    for name, words in [
        ("one", "Line chart: loss (nats) over step. a from 3 at 1 to 4 at 2."),
        ("two", f"left: {COLUMNS} right: {COLUMNS}"),
        ("own", "A line that rises."),
    ]:
        assert metadata(outputs[name]) == ({"alt": words}, words)


def test_figures_without_words_stay_as_they_were(outputs):
    assert metadata(outputs["plain"]) == ({}, "<Figure size 640x480 with 1 Axes>")


def test_words_survive_another_format_and_its_own_metadata(outputs):
    said, _ = metadata(outputs["retina"])
    assert said.pop("alt") == COLUMNS
    assert said.keys() == {"width", "height"}


def test_words_are_printed_for_who_asks(outputs):
    printed = "".join(output["text"] for output in outputs["printed"] if output["output_type"] == "stream")
    assert f"Figure: {COLUMNS}" in printed
    assert not [output for name in ("one", "own") for output in outputs[name] if output["output_type"] == "stream"]


def test_what_is_said_of_a_figure_goes_before_its_axes():
    figure, ax = lk.plots.figure()
    lk.plots.describe(ax, "Of the\n axes.")
    assert lk.plots.alt_text(ax) == lk.plots.alt_text(figure) == "Of the axes."
    lk.plots.describe(figure, "Of the figure.")
    assert lk.plots.alt_text(figure) == "Of the figure."
    assert lk.plots.alt_text(plt.figure()) == ""
    plt.close("all")


def test_the_course_of_a_curve_has_its_ends_and_turns():
    for ys, said in [
        ([3, 2, 1], "a from 3 at 0 to 1 at 2"),
        ([3, 9.5, 1], "a from 3 at 0 to 1 at 2, highest 9.5 at 1"),
        ([3, 0.001234, 1], "a from 3 at 0 to 1 at 2, lowest 0.00123 at 1"),
    ]:
        assert course("a", [0, 1, 2], ys) == said
    assert [number(value) for value in (1234.5, 0.5, 123.4, -2000)] == ["1,234", "0.5", "123", "-2,000"]
