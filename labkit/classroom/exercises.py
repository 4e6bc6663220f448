"""Shared by all checks of exercises: untouched stubs, answers that fail, and graded hints."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from labkit.printing import printable

HINTS: dict[str, tuple[str, ...]] = {}
_shown: dict[str, int] = {}


def exercise(*hints: str) -> Callable:
    """Turn a function, which gets an answer and returns what to say about it, into a check.

    The check prints that text and returns nothing. It says "not attempted yet" on an untouched stub
    (``None`` or ``...``), and never raises, whatever the answer is or does.
    """

    def decorate(judge: Callable[[Any], str]) -> Callable[[Any], None]:
        HINTS[judge.__name__] = hints

        @wraps(judge)
        def check(answer: Any = None) -> None:
            if answer is None or answer is ...:
                _say(f"○ {judge.__name__}: not attempted yet")
                return
            try:
                _say(judge(answer))
            except Exception as problem:
                _say(f"✗ Your answer raised {type(problem).__name__}: {problem}")

        return check

    return decorate


def hint(name: str) -> None:
    """Print the next hint of an exercise; once all were shown, the last one again."""
    if name not in HINTS:
        _say(f"There is no exercise called {name!r}. The exercises are: {', '.join(sorted(HINTS))}.")
        return
    number = min(_shown.get(name, 0), len(HINTS[name]) - 1)
    _shown[name] = number + 1
    _say(f"Hint {number + 1} of {len(HINTS[name])}: {HINTS[name][number]}")


def untouched(result: Any) -> bool:
    """Return whether a function that the learner should complete still returns the stub's value."""
    return result is None or result is ...


def _say(text: str) -> None:
    print(printable(text))  # noqa: T201  this is what a check is for
