"""What the tests of all checks share."""

import pytest
import torch

from labkit.classroom import check
from labkit.classroom.exercises import HINTS

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
def require_fair(request, said):
    """A function that tries each check of a notebook with a right answer, with stubs and with nonsense.

    A file ``test_notebook_NN.py`` calls it with right answers to all exercises of notebook NN.
    """
    module = f"labkit.classroom.{request.path.stem.removeprefix('test_')}"

    def require(right):
        assert set(right) == {name for name in HINTS if getattr(check, name).__module__ == module}
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
def require_explained(said):
    """A function that requires each wrong answer to be explained with certain words."""

    def require(mistakes):
        for name, answer, words in mistakes:
            text = said(name, answer)
            assert text.startswith("✗")
            assert words in text

    return require
