import json

import ipywidgets as widgets
import pytest

import labkit as lk
from labkit.classroom import guesses
from labkit.classroom.guesses import Guess


@pytest.fixture(autouse=True)
def _learner(tmp_path, monkeypatch):
    """Somebody sits in front of the notebook, and has made no guess yet."""
    monkeypatch.setenv("LABKIT_HOME", str(tmp_path))
    monkeypatch.delenv("LABKIT_UNATTENDED", raising=False)


@pytest.fixture
def shown(monkeypatch):
    """What a notebook displays."""
    found = []
    monkeypatch.setattr("IPython.display.display", found.append)
    return found


def test_a_guess_is_kept_and_shown_beside_the_result_with_the_score(shown, capsys):
    rank, share = lk.guess("How many hold half?", [1, 8, 100]), lk.guess("How much is left?")
    assert (rank.value, share.value) == (None, None)
    rank.make(8)
    share.make(0.5)
    assert lk.guess("How many hold half?", [1, 8, 100]).value == 8  # after a restart
    rank.reveal(9)
    share.reveal(0.91234)
    assert capsys.readouterr().out == (
        "✓ You guessed 8; it is 9. Right so far: 1 of 1.\n✗ You guessed 0.5; it is 0.912. Right so far: 1 of 2.\n"
    )
    rank.reveal(9)  # the cell is run again
    assert "1 of 2" in capsys.readouterr().out


def test_the_choice_nearest_to_the_result_is_right():
    for choices, value, result, right in (
        ([1, 8, 100, 288], 8, 16, True),
        ([1, 8, 100, 288], 100, 16, False),
        (["higher", "lower"], "higher", "higher", True),
        (["higher", "lower"], "lower", "higher", False),
        ([0, 1], 0, 0, True),
        (None, 10, 14, True),
        (None, 10, 16, False),
        (None, -1, 1, False),
        (None, 0, 0, True),
        (None, 0, 1, False),
    ):
        asked = Guess("?", choices)
        asked.make(value)
        assert asked.is_right(result) is right, (choices, value, result)


def test_widgets_make_guesses(shown):
    chosen, typed = lk.guess("Which?", ["a", "b"]), lk.guess("How much?")
    buttons, field = (box.children[1] for box in shown)
    assert isinstance(buttons, widgets.RadioButtons)
    assert buttons.value is None
    buttons.value = "b"
    field.value = "2,5"
    assert (chosen.value, typed.value) == ("b", 2.5)
    field.value = "many"
    assert typed.value == 2.5
    assert shown[1].children[2].value == "Write a number, such as 0.5."
    lk.guess("Which?", ["a", "b"])
    assert shown[2].children[1].value == "b"
    lk.guess("Is a < b?")
    assert shown[3].children[0].value.endswith("Is a &lt; b?")


def test_a_guess_among_other_choices_is_forgotten(shown):
    Guess("Which?", ["a", "b"]).make("a")
    assert lk.guess("Which?", ["b", "c"]).value is None
    assert lk.guess("Which?").value is None
    assert shown[0].children[1].value is None


def test_unattended_nothing_is_shown_printed_or_read(shown, monkeypatch, capsys):
    Guess("Which?", ["a", "b"]).make("a")
    monkeypatch.setenv("LABKIT_UNATTENDED", "1")
    asked = lk.guess("Which?", ["a", "b"])
    asked.reveal("a")
    assert (asked.value, shown, capsys.readouterr().out) == (None, [], "")


def test_without_a_guess_nothing_is_printed(shown, capsys):
    lk.guess("Which?", ["a", "b"]).reveal("a")
    assert capsys.readouterr().out == ""


def test_what_cannot_be_asked_or_guessed_is_refused(tmp_path):
    for question, choices in (("", None), (3, None), ("?", "ab"), ("?", []), ("?", ["a"]), ("?", ["a", "a"])):
        with pytest.raises(lk.LabkitError):
            lk.guess(question, choices)
    with pytest.raises(lk.LabkitError, match=r"'c' is not among the choices.*\n.*Choose a, b"):
        Guess("?", ["a", "b"]).make("c")
    with pytest.raises(lk.LabkitError, match="A guess"):
        Guess("?").make("many")
    (tmp_path / "guesses.json").write_text("{")
    with pytest.raises(lk.LabkitError, match=r"Remove it\. Only the guesses"):
        Guess("?")
    assert (tmp_path / "guesses.json").read_text() == "{"


def test_guesses_are_in_one_file_that_says_what_it_is(tmp_path):
    Guess("Größe?").make(3)
    content = json.loads((tmp_path / "guesses.json").read_text(encoding="utf-8"))
    assert content == {"format": "labkit guesses", "version": 1, "guesses": {"Größe?": {"guess": 3}}}
    assert guesses.unattended() is False
