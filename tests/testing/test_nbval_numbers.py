"""nbval itself runs a notebook whose stored outputs are a little off, by cell."""

import subprocess
import sys
from types import SimpleNamespace

import pytest
from cells import CELLS, write_notebook
from nbval.plugin import IPyNbCell

import labkit.testing.nbval_numbers as plugin


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("course")
    write_notebook(folder / "lesson.ipynb")
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
