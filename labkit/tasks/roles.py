"""Which part of a data set a name such as "dev" or "training" stands for."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

from labkit.errors import LabkitError

T = TypeVar("T")

# A validation set is for choosing settings; without a test set, it takes its place.
ROLES = {
    "train": ("train", "training"),
    "test": ("test", "testing", "eval", "evaluation"),
    "validation": ("validation", "valid", "val", "dev"),
}
ROLE = {name: role for role, names in ROLES.items() for name in names}


def role_of(name: object) -> str | None:
    """Return ``"train"``, ``"test"`` or ``"validation"``, or None for other names."""
    return ROLE.get(str(name).strip().casefold())


def roles_of(parts: Iterable[T], word: Callable[[T], str] = str) -> dict[str, T]:
    """Return which part is the training set, which the test set and which the validation set.

    Args:
        parts: the parts, or their names.
        word: returns the name of a part.

    Raises:
        LabkitError: two parts have the same role.
    """
    found: dict[str, list[T]] = {role: [] for role in ROLES}
    for part in parts:
        if role := role_of(word(part)):
            found[role].append(part)
    for role, same in found.items():
        if len(same) > 1:
            raise LabkitError(
                f"There are {len(same)} {role} sets: {', '.join(map(str, same))}.", "Keep one, or pass them one by one."
            )
    return {role: same[0] for role, same in found.items() if same}
