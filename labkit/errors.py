"""The one exception that labkit raises for problems a learner can mend."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class LabkitError(Exception):
    """Something went wrong that the reader of the message can put right.

    Args:
        cause: what was wrong, and what was expected instead.
        remedy: what to do about it, in one sentence.
    """

    def __init__(self, cause: str, remedy: str):
        super().__init__(f"{cause}\n→ {remedy}")
        self.cause = cause
        self.remedy = remedy


def unknown(kind: str, name: str, valid: Iterable[str], extra: str = "") -> LabkitError:
    """Return the error for a name that is not in a list, with the list and the nearest match."""
    names = sorted(valid)
    near = difflib.get_close_matches(name, names, n=1)
    hint = f"Did you mean {near[0]!r}? " if near else ""
    return LabkitError(f"There is no {kind} called {name!r}.", f"{hint}Valid names: {', '.join(names)}.{extra}")
