"""Problems that a learner can fix: the exception that explains them, and the checks that raise it."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable
from numbers import Integral, Real

from labkit.printing import printable

MOST = 2**31 - 1  # no count or seed needs to be larger


class LabkitError(Exception):
    """Something went wrong that the reader of the message can fix.

    Args:
        cause: what was wrong, and what was expected instead.
        remedy: how to fix it, in one sentence.
    """

    def __init__(self, cause: str, remedy: str):
        super().__init__(f"{cause}\n→ {remedy}")
        self.cause = cause
        self.remedy = remedy

    def __str__(self) -> str:
        return printable(super().__str__())


def first_line(problem: BaseException) -> str:
    """Return the first line of what an exception says, or its kind where it says nothing."""
    return next(iter(str(problem).strip().splitlines()), type(problem).__name__)


def unknown(kind: str, name: str, valid: Iterable[str], extra: str = "") -> LabkitError:
    """Return the error for a name that is not in a list, with the list and the nearest match."""
    names = sorted(valid)
    near = difflib.get_close_matches(name, names, n=1) if isinstance(name, str) else []
    hint = f"Did you mean {near[0]!r}? " if near else ""
    return LabkitError(f"There is no {kind} called {shown(name)}.", f"{hint}Valid names: {', '.join(names)}.{extra}")


def require_count(name: str, value: int, low: int = 1, high: int = MOST, remedy: str = "") -> int:
    """Return ``value`` as an int.

    numpy's integers are accepted. True, 3.0 and "3" are not: as a count, each is probably a mistake.

    Raises:
        LabkitError: it is not a whole number from ``low`` to ``high``.
    """
    whole = isinstance(value, Integral) and not isinstance(value, bool)
    if whole and low <= value <= high:
        return int(value)
    span = f"from {low} to {high}" if high != MOST or (whole and value > high) else f"from {low} up"
    raise LabkitError(
        f"{name} must be a whole number {span}, not {shown(value)}.", remedy or f"Choose {name} in that range."
    )


def require_seed(value: int) -> int:
    """Return a seed of random numbers as an int; raise a ``LabkitError`` unless it is a whole number from 0 up."""
    return require_count("seed", value, low=0, remedy="Try 0.")


def require_number(
    name: str,
    value: float,
    *,
    low: float | None = None,
    above: float | None = None,
    below: float | None = None,
    remedy: str = "",
) -> float:
    """Return ``value`` as an int or a float.

    Args:
        name: the name of the value in the message.
        value: an int, a float, or a number of numpy's.
        low: the smallest allowed number.
        above: the number must be larger than this.
        below: the number must be smaller than this; only together with ``low``.
        remedy: what to do instead.

    Raises:
        LabkitError: it is not a number, infinite, or out of bounds.
    """
    if isinstance(value, Real) and not isinstance(value, bool) and _is_finite(value):
        plain = int(value) if isinstance(value, Integral) else float(value)
        if (low is None or plain >= low) and (above is None or plain > above) and (below is None or plain < below):
            return plain
    wanted = f"from {low} to below {below}" if below is not None else f"from {low} up and finite"
    wanted = f"above {above} and finite" if above is not None else "a finite number" if low is None else wanted
    raise LabkitError(f"{name} must be {wanted}, not {shown(value)}.", remedy or f"Choose {name} in that range.")


def set_checked(frozen: object, **values: float) -> None:
    """Set checked values on a frozen dataclass in its ``__post_init__``; numpy's numbers become Python's this way."""
    for name, value in values.items():
        object.__setattr__(frozen, name, value)


def _is_finite(value: Real) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer too large for a float
        return False


def shown(value: object) -> str:
    """Return a value as an error message shows it: on one line, with only both ends of a long one."""
    try:
        text = " ".join(repr(value).split())
    except Exception:  # an integer of thousands of digits has no repr, and other code's repr may raise anything
        text = f"a {type(value).__name__}"
    return text if len(text) <= 80 else f"{text[:38]}...{text[-39:]}"
