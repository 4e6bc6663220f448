"""Score replies with somebody's function: what fails is counted, and one failure too many stops."""

from __future__ import annotations

import math
from collections.abc import Callable
from numbers import Real
from typing import TypeAlias

from labkit.errors import LabkitError, first_line, require_count, shown

Verifier: TypeAlias = Callable[[str, dict], float]
WHAT = "A verifier takes a reply (a text) and its row (a dict) and returns a number, the higher the better."


class Scorer:
    """Scores replies, and counts those that get no score.

    Args:
        verifier: returns the score of a reply, given its text and its row. True and False are 1 and 0.
        limit: so many failures are passed over.

    Attributes:
        failures: how often the verifier raised or returned no finite number.

    Raises:
        LabkitError: the verifier is no function.
    """

    def __init__(self, verifier: Verifier, limit: int):
        if not callable(verifier):
            raise LabkitError(f"The verifier is no function but {shown(verifier)}.", WHAT)
        self.verifier, self.limit, self.failures = verifier, require_count("most_failures", limit, low=0), 0

    def score(self, text: str, row: dict, number: int) -> float | None:
        """Return the score of a reply, or None.

        Args:
            text: the reply.
            row: what it replies to; the verifier gets a copy.
            number: of the row, counted from 1.

        Raises:
            LabkitError: it failed more often than the limit allows; what the verifier raised is the cause.
        """
        problem: Exception | None = None
        try:
            value = self.verifier(text, dict(row))
            if isinstance(value, Real) and math.isfinite(value):
                return float(value)
            what = f"returned {shown(value)}, which is no finite number,"
        except Exception as raised:  # whatever somebody else's function raises
            problem, what = raised, f"raised {type(raised).__name__} ({first_line(raised)})"
        self.failures += 1
        if self.failures > self.limit:
            raise LabkitError(
                f"The verifier {what} for row {number}, reply {shown(text)}: failure {self.failures}.",
                f"{WHAT} most_failures, now {self.limit}, says how many failures are passed over.",
            ) from problem
        return None
