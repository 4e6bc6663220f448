"""Stratified sampling: order examples so that any beginning holds each label in its share."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Mapping


def in_proportion(
    indices: list[int], label: Callable[[int], str], counts: Mapping[str, int], dice: random.Random, balanced: bool
) -> list[int]:
    """Order indices so that any beginning holds each label in proportion to its count, or evenly if ``balanced``.

    A label's examples are placed at equal distances, 1/count, from a random start: systematic sampling
    (Madow and Madow, 1944).
    """
    members = defaultdict(list)
    for i in indices:
        members[label(i)].append(i)
    place: dict[int, float] = {}
    for name in sorted(members):
        start = dice.random()
        place |= {i: (k + start) / (1 if balanced else counts[name]) for k, i in enumerate(members[name])}
    return sorted(place, key=place.__getitem__)
