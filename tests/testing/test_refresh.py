"""``labkit refresh`` on tiny notebooks: what changed, what changed it, and what is stored."""

import copy
import json

import nbformat
import pytest
from cells import CELLS, stream, write_notebook
from nbformat.v4 import new_code_cell, new_notebook
from nbval.plugin import IPyNbFile

from labkit import cli
from labkit.errors import LabkitError
from labkit.testing import provenance
from labkit.testing.comparison import SKIPPED, changes
from labkit.testing.execution import execute
from labkit.testing.notebooks import find, read
from labkit.testing.refresh import Refreshed, refresh

PRINTS = {name: cell for name, cell in CELLS.items() if name != "error"}


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """The cells of the notebook that nbval is tested with, stored and new."""
    path = tmp_path_factory.mktemp("course") / "lesson.ipynb"
    write_notebook(path, PRINTS)
    stored = read(path)
    return dict(zip(PRINTS, zip(stored.cells, execute(stored, path.parent).notebook.cells, strict=True), strict=True))


@pytest.mark.parametrize("name", PRINTS)
def test_cells_are_judged_as_nbval_judges_them(both, name):
    told, told_by_nbval = changes(*both[name]), CELLS[name][2]
    assert bool(told) == bool(told_by_nbval)
    if told_by_nbval and "failed" not in told_by_nbval:
        assert told_by_nbval in "\n".join(told)


def test_exactly_what_nbval_leaves_out_is_left_out(monkeypatch):
    monkeypatch.setattr("pytest.File.__init__", lambda self, *args, **kwargs: None)
    file = object.__new__(IPyNbFile)
    options = {"nbval_lax": False, "nbdime": False}
    file.parent = type("Parent", (), {"config": type("Config", (), {"option": type("Options", (), options)})})
    file.__init__()
    assert {*SKIPPED} == {*file.skip_compare}


def test_a_progress_bar_is_no_output():
    bar = "fine-tuning: 100%|██████████| 60/60 [00:0{}<00:00, 11.3it/s, loss=4.3]\n"
    old, new = (
        new_code_cell("", execution_count=1, outputs=[*stream("done\n"), *stream(bar.format(i), "stderr")])
        for i in (5, 6)
    )
    assert changes(old, new) == []
    new.outputs.pop()
    assert changes(old, new) == []
    new.outputs[0].text = "gone\n"
    assert changes(old, new) == ["stdout, line 1: 'done' is stored, and 'gone' is new; both must be equal"]


SOURCES = ["import helper\nprint(helper.loss)  # ±2%", "print(open('data.csv').read())", "# NBVAL_SKIP\n1 / 0"]


@pytest.fixture
def lesson(tmp_path):
    """A notebook in a project with a module and data of its own, never run."""
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "helper.py").write_text("loss = 4.3\n")
    (tmp_path / "data.csv").write_text("a,b\n")
    path = tmp_path / "lesson.ipynb"
    nbformat.write(new_notebook(cells=[new_code_cell(source) for source in SOURCES]), path)
    return path


def change(path, change_it):
    notebook = read(path)
    change_it(notebook)
    nbformat.write(notebook, path)


def test_outputs_and_their_record_are_stored_once(lesson):
    before = lesson.read_bytes()
    (result,) = refresh([lesson])
    assert (result.agrees, result.compared, lesson.read_bytes()) == (True, 0, before)
    (result,) = refresh([lesson], store=True)
    stored = read(lesson)
    nbformat.validate(stored)
    assert result.written
    assert [cell.execution_count for cell in stored.cells] == [1, 2, None]
    assert [cell.outputs and cell.outputs[0].text for cell in stored.cells] == ["4.3\n", "a,b\n\n", []]
    record = stored.metadata.labkit
    assert record.keys() == {"version", "code", "outputs", "packages", "processor", "sources", "data"}
    assert (record.sources.keys(), record.data.keys()) == ({"helper"}, {"data.csv"})
    assert str(lesson.parent) not in lesson.read_text()
    assert all(cell.metadata == {} for cell in stored.cells)

    once = lesson.read_bytes()
    (result,) = refresh([lesson.parent], store=True)
    assert (result.agrees, result.compared, result.written, lesson.read_bytes()) == (True, 2, False, once)

    (lesson.parent / "helper.py").write_text("loss = 4.35\n")  # within 2%
    (lesson.parent / "data.csv").write_text("a,c\n")
    (result,) = refresh([lesson])
    assert not result.agrees
    assert str(result).splitlines() == [
        f"{lesson}: 1 of 2 compared cells changed beyond tolerance.",
        "  Cell [2], \"print(open('data.csv').read())\"",
        "    stdout, line 1: 'a,b' is stored, and 'a,c' is new; both must be equal",
        "  2 things differ. Undo one at a time, and refresh again:",
        "    source of helper",
        "      to tell: git stash, or git worktree add ../then OLD-COMMIT",
        "    data in data.csv",
        "      to tell: git log data.csv",
    ]
    assert lesson.read_bytes() == once


def test_a_failing_notebook_stays_as_it_is_and_the_next_one_runs(tmp_path):
    for name, source in (("a", "print(1)\n1 / 0"), ("b", "print('sys' in globals())")):
        cells = {"": (source, stream("0\n"), None)}
        write_notebook(tmp_path / f"{name}.ipynb", cells)
    before = (tmp_path / "a.ipynb").read_bytes()
    failed, ran = refresh([tmp_path], store=True)
    assert "Cell [1], 'print(1)', failed: ZeroDivisionError: division by zero." in str(failed)
    assert not failed.agrees
    assert (tmp_path / "a.ipynb").read_bytes() == before
    assert "There is no record of how the stored outputs were made" in str(ran)
    assert ran.written
    assert read(tmp_path / "b.ipynb").cells[0].outputs[0].text == "False\n"  # what runs unseen leaves no names
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.ipynb", "b.ipynb"]


THEN = {
    "packages": {"python": "3.11.7", "torch": "2.13.0+cpu", "numpy": "2.4.6"},
    "processor": {"name": "An EPYC", "instructions": "AVX2", "threads": 2, "precision": "float32"},
    "sources": {"labkit": "a", "labkit.training": "b"},
    "data": {"../data/inbox.csv": "c"},
}
OTHERWISE = {
    "package": (("packages", "torch"), "2.14.0", "torch 2.13.0+cpu → 2.14.0"),
    "python": (("packages", "python"), "3.13.1", "python 3.11.7 → 3.13.1"),
    "processor": (("processor", "name"), "A Xeon", "processor An EPYC → A Xeon"),
    "precision": (("processor", "precision"), "bfloat16", "processor float32 → bfloat16"),
    "threads": (("processor", "threads"), 1, "threads 2 → 1"),
    "course": (("sources", "labkit.training"), "x", "source of labkit.training"),
    "data": (("data", "../data/inbox.csv"), "x", "data in ../data/inbox.csv"),
}


def made(source="print(1)"):
    notebook = new_notebook(cells=[new_code_cell(source, outputs=stream("1\n"), execution_count=1)])
    notebook.metadata[provenance.KEY] = provenance.record(notebook, THEN)
    return notebook


@pytest.mark.parametrize("name", OTHERWISE)
def test_the_only_cause_is_named(name):
    stored, ((part, key), value, said) = made(), OTHERWISE[name]
    now = copy.deepcopy(stored.metadata[provenance.KEY])
    now[part][key] = value
    assert provenance.explain(stored, now) == f"Cause: {said}. Nothing else that is recorded differs."


def test_several_causes_are_named_with_how_to_tell_them_apart():
    stored, now = made(), copy.deepcopy(THEN)
    now["packages"]["torch"] = "2.14.0"
    now["processor"] |= {"instructions": "AVX512", "precision": "bfloat16", "threads": 1}
    told = provenance.explain(stored, provenance.record(made("print(2)"), now))
    assert told.startswith("4 things differ.")
    for said in ("install torch==2.13.0 with pip\n", "OMP_NUM_THREADS=2\n", "LABKIT_PRECISION=float32 ", "own code\n"):
        assert said in told + "\n"
    assert "processor AVX2, float32 → AVX512, bfloat16" in told


def test_what_is_not_known_is_said():
    stored = made()
    now = stored.metadata[provenance.KEY]
    assert "not deterministic" in provenance.explain(stored, now)
    edited = copy.deepcopy(stored)
    edited.cells[0].outputs[0].text = "2\n"
    assert "by other means" in provenance.explain(edited, now)
    del stored.metadata[provenance.KEY]
    assert "no record" in provenance.explain(stored, now)


def test_where_the_course_is_installed_from_is_no_part_of_the_code():
    cell = "try:\n    import labkit as lk\nexcept ImportError:\n    %pip {}\n    import labkit as lk\nprint(1)"
    codes = {provenance.code_hash(made(cell.format(f"install {address}"))) for address in ("a", "b")}
    assert len(codes) == 1
    assert codes != {provenance.code_hash(made(cell.format("a").replace("print(1)", "print(2)")))}


def test_what_is_no_notebook_is_refused(tmp_path):
    with pytest.raises(LabkitError, match="There is no notebook in"):
        [*find([tmp_path])]
    for text in ("", "{}", "[]", json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": [{}]})):
        (tmp_path / "a.ipynb").write_text(text)
        with pytest.raises(LabkitError, match="cannot be read as a notebook"):
            read(tmp_path / "a.ipynb")
    write_notebook(tmp_path / "a.ipynb", {"": ("print(1)", [], None)})
    change(tmp_path / "a.ipynb", lambda it: it.metadata.update(kernelspec={"name": "nosuch", "display_name": "No"}))
    with pytest.raises(LabkitError, match="There is no kernel called 'nosuch' here"):
        execute(read(tmp_path / "a.ipynb"), tmp_path)


def test_the_exit_status_says_whether_all_agree(monkeypatch, capsys, tmp_path):
    results = [Refreshed(tmp_path, 3)]
    monkeypatch.setattr("labkit.testing.refresh.refresh", lambda places, store: iter(results))
    assert cli.main(["refresh"]) == 0
    results.append(Refreshed(tmp_path, 3, {"Cell [1]": ["stdout, line 1"]}, "Cause: the moon."))
    assert cli.main(["refresh", "a.ipynb", "--write"]) == 1
    assert "  Cell [1]\n    stdout, line 1\n  Cause: the moon.\n" in capsys.readouterr().out
