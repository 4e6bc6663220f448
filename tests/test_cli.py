import sys

import pytest

from labkit import cli
from labkit.assets import fetch
from labkit.assets.fetch import ensure
from labkit.assets.manifest import load_manifest
from labkit.errors import LabkitError


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
        (["--help"], ("doctor", "fetch")),
        (["fetch", "--help"], ("--all", "smollm2-135m hpo factbook")),
    ],
)
def test_help_is_shown(capsys, arguments, words):
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    assert caught.value.code == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert all(word in shown for word in words)


@pytest.mark.parametrize("arguments", [[], ["fly"], ["fetch", "--everything"]])
def test_a_wrong_command_is_answered_with_the_usage(capsys, arguments):
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    assert caught.value.code == 2
    assert "usage: labkit" in capsys.readouterr().err


@pytest.mark.parametrize(("well", "status"), [(True, 0), (False, 1)])
def test_the_doctors_finding_is_the_exit_status(monkeypatch, well, status):
    # The name labkit.doctor means the function, which hides the module of that name.
    monkeypatch.setattr(sys.modules["labkit.doctor"], "doctor", lambda: well)
    assert cli.main(["doctor"]) == status
