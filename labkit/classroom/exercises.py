"""Shared by all exercises: what each asks of a learner, untouched stubs, answers that fail, and graded hints."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any

from labkit.errors import LabkitError, require_count, unknown
from labkit.printing import printable

KINDS = ("compute", "write code", "experiment", "find the bug", "own data")


@dataclass(frozen=True)
class Exercise:
    """What an exercise is and asks for. The notebooks repeat it in the metadata of the cell with the stub.

    Attributes:
        id: name of its check.
        notebook: two digits, those that the notebook's file begins with.
        minutes: that a person needs, waiting included.
        difficulty: 1 (look back), 2 (think) or 3 (combine several ideas).
        points: for a right answer.
        kind: one of KINDS.
        hints: in the order in which they are shown; none of them holds the solution.
    """

    id: str
    notebook: str
    minutes: int
    difficulty: int
    points: int
    kind: str
    hints: tuple[str, ...]

    def __post_init__(self) -> None:
        for name, high in (("minutes", 60), ("difficulty", 3), ("points", 10)):
            require_count(name, getattr(self, name), high=high)
        if self.kind not in KINDS:
            raise unknown("kind of exercise", self.kind, KINDS)
        if not isinstance(self.hints, tuple) or len({*self.hints}) < 2:
            raise LabkitError(f"{self.id} needs two hints or more.", "Let each go a step further than the one before.")

    def metadata(self) -> dict[str, str | int]:
        """Return what a notebook keeps as ``metadata.labkit.exercise`` of the stub's cell."""
        return {name: getattr(self, name) for name in ("id", "minutes", "difficulty", "points", "kind")}

    def headline(self) -> str:
        """Return what a learner reads first: "10 minutes · 2 points · difficulty 1 of 3 · compute", for example."""
        points = "1 point" if self.points == 1 else f"{self.points} points"
        return f"{self.minutes} minutes · {points} · difficulty {self.difficulty} of 3 · {self.kind}"


class MistakeError(Exception):
    """What a check says about a wrong answer."""


EXERCISES: dict[str, Exercise] = {}
_shown: dict[str, int] = {}


def exercise(*, minutes: int, difficulty: int, points: int, kind: str, hints: tuple[str, ...]) -> Callable:
    """Turn a function, which gets an answer and returns what to say about it, into the check of an exercise.

    The check prints that text, or that of a ``MistakeError``, and returns nothing. It says "not attempted yet" on an
    untouched stub (``None`` or ``...``), and never raises, whatever the answer is or does.

    Args:
        minutes, difficulty, points, kind, hints: as in ``Exercise``.
    """

    def decorate(judge: Callable[[Any], str]) -> Callable[[Any], None]:
        name, notebook = judge.__name__, judge.__module__.rpartition("_")[2]
        EXERCISES[name] = Exercise(name, notebook, minutes, difficulty, points, kind, hints)

        @wraps(judge)
        def check(answer: Any = None) -> None:
            if untouched(answer):
                _say(not_attempted(name))
                return
            try:
                _say(judge(answer))
            except MistakeError as mistake:
                _say(f"✗ {mistake}")
            except Exception as problem:
                _say(f"✗ Your answer raised {type(problem).__name__}: {problem}")

        return check

    return decorate


def hint(name: str) -> None:
    """Print the next hint of an exercise; once all were shown, the last one again."""
    if name not in EXERCISES:
        _say(f"There is no exercise called {name!r}. The exercises are: {', '.join(sorted(EXERCISES))}.")
        return
    hints = EXERCISES[name].hints
    number = min(_shown.get(name, 0), len(hints) - 1)
    _shown[name] = number + 1
    _say(f"Hint {number + 1} of {len(hints)}: {hints[number]}")


def untouched(result: Any) -> bool:
    """Return whether a function that the learner should complete still returns the stub's value."""
    return result is None or result is ...


def not_attempted(name: str) -> str:
    """Return what a check says of a stub."""
    return f"○ {name}: not attempted yet"


def _say(text: str) -> None:
    print(printable(text))  # noqa: T201  this is what a check is for
