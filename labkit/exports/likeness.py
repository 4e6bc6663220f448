"""How long two texts, or two lists of tokens, are the same."""

from __future__ import annotations

from collections.abc import Sequence

from labkit.errors import shown


def alike(here: Sequence, there: Sequence) -> int:
    """Return how long two texts or lists are the same."""
    unlike = (at for at, (a, b) in enumerate(zip(here, there, strict=False)) if a != b)
    return next(unlike, min(len(here), len(there)))


def first_difference(found: str, expected: str) -> str:
    """Say what stands in ``found`` where the model's own text has something else."""
    at = alike(found, expected)
    return f"{shown(found[at : at + 30])} where the model's own has {shown(expected[at : at + 30])}"
