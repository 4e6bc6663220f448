"""nbval itself runs a notebook whose stored outputs are a little off, by cell."""

import subprocess
import sys
from types import SimpleNamespace

import nbformat
import pandas as pd
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output
from nbval.plugin import IPyNbCell

import labkit.testing.nbval_numbers as plugin

TABLE = 'import pandas as pd\ntable = pd.DataFrame({"loss": [%s, 12.5], "steps": [10, 20]})\ntable'

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg=="
PICTURE = f"""from IPython.display import display
display({{"image/png": "{PIXEL}", "text/plain": "mean %s"}}, raw=True)"""


def stream(text, name="stdout"):
    return [new_output("stream", name=name, text=text)]


def table(loss):
    frame = pd.DataFrame({"loss": [loss, 12.5], "steps": [10, 20]})
    data = {"text/plain": repr(frame), "text/html": frame._repr_html_()}
    return [new_output("execute_result", data=data, execution_count=1)]


def picture(words):
    return [new_output("display_data", data={"image/png": PIXEL, "text/plain": words})]


# Source, stored outputs, and what the report says where the cell fails.
CELLS = {
    "equal": ("print(4.30)", stream("4.3\n"), None),
    "digits": ("print(4.3)", stream("4.31\n"), "reference_output == test_output failed"),
    "near": ("print('loss', 4.3)  # ±2%", stream("loss 4.35\n"), None),
    "planted": (
        "print('loss', 4.3)  # ±2%",
        stream("loss 4.48\n"),
        "4.48 is stored, and 4.3 is new; ±2% allows 0.0896",
    ),
    "text": ("print('loss', 4.3)  # ±2%", stream("Loss 4.3\n"), "reference_output == test_output failed"),
    "more": ("print(4.3, 1.0)  # ±2%", stream("4.3\n"), "reference_output == test_output failed"),
    "integer": ("print(100)  # ±2%", stream("101\n"), "whole numbers must be equal"),
    "steps": ("print(100)  # ±3", stream("101\n"), None),
    "table": (TABLE % 4.3 + "  # ±2%", table(4.35), None),
    "wider table": (TABLE % 9.99 + "  # ±2%", table(10.01), None),
    "wrong table": (TABLE % 4.3 + "  # ±2%", table(4.5), "text/html, line"),
    "two streams": (
        "import sys\nprint(1.0)\nprint(2.0, file=sys.stderr)  # ±2%",
        [*stream("1.01\n"), *stream("2.01\n", "stderr")],
        None,
    ),
    "words of a picture": (PICTURE % "3.1", picture("mean 3.0"), None),
    "two markers": ("print(1.0)  # ±2%\nprint(2.0)  # ±3%", stream("1.0\n2.0\n"), "several"),
    "ignored": ("# NBVAL_IGNORE_OUTPUT\nprint(1.0)  # ±2%", stream("9.0\n"), None),
    "error": ("1 / 0  # ±2%", [], "ZeroDivisionError"),
}


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("course")
    cells = [new_code_cell(source, outputs=outputs, execution_count=1) for source, outputs, _ in CELLS.values()]
    nbformat.write(new_notebook(cells=cells), folder / "lesson.ipynb")
    command = [sys.executable, "-m", "pytest", "--nbval", "--nbval-kernel-name", "python3", "-p", "no:cacheprovider"]
    command += ["--color=no", "-v", "lesson.ipynb"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False).stdout


@pytest.mark.parametrize("name", CELLS)
def test_a_cell_passes_where_its_numbers_are_near(report, name):
    number, told = [*CELLS].index(name), CELLS[name][2]
    assert f"Cell {number} {'PASSED' if told is None else 'FAILED'}" in report
    if told:
        section = report.split(f"Cell {number} _")[1].split("\n____")[0]
        assert told in section


class Session:
    """What the plugin sees of a session of pytest."""

    def __init__(self, *plugins):
        self.stash = pytest.Stash()
        self.pluginmanager = self
        self.hasplugin = plugins.__contains__
        self.option = SimpleNamespace(nbval=False, nbval_lax=False)


def test_what_nbval_had_is_put_back_in_sessions_within_sessions():
    before = IPyNbCell.compare_outputs
    outer, inner, without = Session("nbval"), Session("nbval"), Session()
    for session in (outer, inner, without):
        plugin.pytest_configure(session)
    wrapped = IPyNbCell.compare_outputs
    plugin.pytest_unconfigure(without)
    assert IPyNbCell.compare_outputs is wrapped is not before
    plugin.pytest_unconfigure(inner)
    assert IPyNbCell.compare_outputs not in (wrapped, before)
    plugin.pytest_unconfigure(outer)
    assert IPyNbCell.compare_outputs is before
