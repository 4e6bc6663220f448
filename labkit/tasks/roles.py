"""Which part of a data set a name such as "dev" or "training" stands for."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

from labkit.errors import LabkitError

Part = TypeVar("Part")

# The third is for choosing settings, and stands in for a test set.
ROLES = {
    "train": ("train", "training"),
    "test": ("test", "testing", "eval", "evaluation"),
    "validation": ("validation", "valid", "val", "dev"),
}
ROLE = {name: role for role, names in ROLES.items() for name in names}


def role_of(name: object) -> str | None:
    """Return ``"train"``, ``"test"`` or ``"validation"``, or None for other names."""
    return ROLE.get(str(name).strip().casefold())


def roles_of(parts: Iterable[Part], word: Callable[[Part], str] = str) -> dict[str, Part]:
    """Return which part is the training set, which the test set and which is there for validation.

    Args:
        parts: their names, or what ``word`` returns the name of.
        word: returns the name of a part.

    Raises:
        LabkitError: two parts are one and the same.
    """
    found: dict[str, list[Part]] = {role: [] for role in ROLES}
    for part in parts:
        if role := role_of(word(part)):
            found[role].append(part)
    for role, same in found.items():
        if len(same) > 1:
            raise LabkitError(
                f"There are {len(same)} {role} sets: {', '.join(map(str, same))}.", "Keep one, or pass them one by one."
            )
    return {role: same[0] for role, same in found.items() if same}
