"""What the tests of all checks share."""

from collections import defaultdict

import pytest
import torch

from labkit.classroom import check
from labkit.classroom.exercises import EXERCISES

NONSENSE = [object(), "x", -1, 2.5, [], {}, len, lambda: 1 / 0, lambda *a: 1 / 0]
RESULTS = ["x", {}, [], [[1, 2]], (1, 2), ("a", "b"), 1j, float("nan"), object(), torch.ones(3)]


@pytest.fixture
def said(capsys):
    """A function that returns what a check prints about an answer."""

    def say(name, answer):
        assert getattr(check, name)(answer) is None
        return capsys.readouterr().out

    return say


@pytest.fixture
def names(request):
    """The exercises of the notebook NN, in a file ``test_notebook_NN.py``."""
    notebook = request.path.stem.removeprefix("test_notebook_")
    return {name for name, exercise in EXERCISES.items() if exercise.notebook == notebook}


@pytest.fixture
def require_fair(names, said):
    """A function that tries each check of a notebook with a right answer, with stubs and with nonsense."""

    def require(right):
        assert set(right) == names
        for name, answer in right.items():
            assert said(name, answer).startswith("✓")
            stubs = [None, ..., *([lambda *args: None, lambda *args: ...] if callable(answer) else [])]
            for stub in stubs:
                assert said(name, stub) == f"○ {name}: not attempted yet\n"
            of_results = [lambda *args, result=result: result for result in RESULTS]
            for nonsense in [*NONSENSE, *of_results]:
                assert said(name, nonsense).startswith("✗")

    return require


@pytest.fixture
def require_explained(names, said):
    """A function that requires of each exercise's wrong answers, three or more, that each has a message of its own."""

    def require(mistakes):
        texts = defaultdict(list)
        for name, answer, words in mistakes:
            text = said(name, answer)
            assert text.startswith("✗")
            assert words in text
            texts[name].append(text)
        assert {name: len({*said_of}) for name, said_of in texts.items()} == {n: len(s) for n, s in texts.items()}
        assert {name for name, said_of in texts.items() if len(said_of) >= 3} == names

    return require
