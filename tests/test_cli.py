import sys
from pathlib import Path

import pytest

from labkit import bench, cli
from labkit.assets import fetch
from labkit.assets.fetch import ensure
from labkit.assets.manifest import load_manifest
from labkit.errors import LabkitError
from labkit.sweeps import SWEEPS


@pytest.fixture
def asked(monkeypatch):
    """Return the list of the assets that the command asks for, which are not fetched."""
    names = []

    def note(name):
        names.append(name)
        return f"/cache/{name}"

    monkeypatch.setattr(fetch, "ensure", note)
    return names


def test_an_unknown_asset_fails_with_the_valid_names(capsys):
    assert cli.main(["fetch", "nosuch"]) == 1
    seen = capsys.readouterr()
    assert seen.out == ""
    assert seen.err.startswith("labkit: There is no asset called 'nosuch'.")
    assert "factbook, hpo, licenses, minilm, smollm2-135m" in seen.err


def test_a_cached_asset_is_shown_with_its_folder(capsys):
    assert cli.main(["fetch", "hpo"]) == 0
    assert capsys.readouterr().out.split() == ["hpo", str(ensure("hpo"))]


def test_without_names_the_first_notebooks_assets_are_fetched(asked, capsys):
    assert cli.main(["fetch"]) == 0
    assert asked == ["smollm2-135m", "hpo", "factbook"]
    assert [line.split() for line in capsys.readouterr().out.splitlines()] == [[n, f"/cache/{n}"] for n in asked]


def test_all_means_every_asset_of_the_manifest(asked):
    assert cli.main(["fetch", "--all"]) == 0
    assert asked == list(load_manifest())


def test_named_assets_are_fetched_in_their_order(asked):
    assert cli.main(["fetch", "minilm", "hpo"]) == 0
    assert asked == ["minilm", "hpo"]


def test_a_problem_is_printed_with_its_remedy(monkeypatch, capsys):
    def fail(name):
        raise LabkitError("It rains.", "Take an umbrella.")

    monkeypatch.setattr(fetch, "ensure", fail)
    assert cli.main(["fetch", "hpo"]) == 1
    assert capsys.readouterr().err == "labkit: It rains.\n→ Take an umbrella.\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--help"], ("doctor", "fetch", "bench")),
        (["fetch", "--help"], ("--all", "smollm2-135m hpo factbook")),
        (["bench", "--help"], ("--out", "lora-rate")),
    ],
)
def test_help_is_shown(capsys, arguments, words):
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    assert caught.value.code == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert all(word in shown for word in words)


@pytest.mark.parametrize("arguments", [[], ["fly"], ["fetch", "--everything"], ["bench"], ["bench", "a", "b"]])
def test_a_wrong_command_is_answered_with_the_usage(capsys, arguments):
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    assert caught.value.code == 2
    assert "usage: labkit" in capsys.readouterr().err


@pytest.fixture
def benched(monkeypatch):
    """Return the list of what ``bench`` was called with; it runs nothing, and fails after ``rows`` if told to."""
    calls = []
    rows = [
        {"learning_rate": 1e-05, "seed": 2, "method": {"name": "full"}, "correct": 7, "total": 9},
        {"learning_rate": 0.003, "seed": 0, "method": {"name": "lora", "rank": 4}, "correct": 8, "total": 9},
    ]

    def fake(name, folder):
        calls.append((name, folder))
        yield from ((number, 5, row) for number, row in enumerate(rows, 4))
        if name == "stormy":
            raise LabkitError("It rains.", "Take an umbrella.")

    monkeypatch.setattr(bench, "bench", fake)
    return calls


RUNS = "4/5  7 of 9  rate=1e-05 seed=2 name=full\n5/5  8 of 9  rate=0.003 seed=0 name=lora rank=4\n"


@pytest.mark.parametrize(
    ("arguments", "folder"), [([], None), (["--out", "my results"], Path("my results"))], ids=["default", "--out"]
)
def test_bench_prints_a_line_for_each_run(benched, capsys, arguments, folder):
    assert cli.main(["bench", "sunny", *arguments]) == 0
    assert benched == [("sunny", folder)]
    assert capsys.readouterr() == (RUNS, "")


def test_a_problem_in_a_sweep_comes_after_the_runs_before_it(benched, capsys):
    assert cli.main(["bench", "stormy"]) == 1
    assert capsys.readouterr() == (RUNS, "labkit: It rains.\n→ Take an umbrella.\n")


def test_an_unknown_sweep_fails_with_the_valid_names(capsys, tmp_path):
    assert cli.main(["bench", "nosuch", "--out", str(tmp_path / "out")]) == 1
    seen = capsys.readouterr()
    assert seen.out == ""
    assert seen.err.startswith("labkit: There is no sweep called 'nosuch'.")
    assert ", ".join(sorted(SWEEPS)) in seen.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("well", "status"), [(True, 0), (False, 1)])
def test_the_doctors_finding_is_the_exit_status(monkeypatch, well, status):
    # The name labkit.doctor means the function, which hides the module of that name.
    monkeypatch.setattr(sys.modules["labkit.doctor"], "doctor", lambda: well)
    assert cli.main(["doctor"]) == status
