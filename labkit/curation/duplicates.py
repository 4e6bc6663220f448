"""Which rows are copies, or near copies, of earlier ones."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from labkit.curation.minhash import candidates, signatures
from labkit.curation.words import jaccard, normal, require_share, require_texts, shingles


@dataclass(frozen=True)
class Duplicates:
    """Copies among texts, by their indices.

    Attributes:
        exact: for each copy the first text that is equal to it after normalisation.
        near: for each near copy the text that it is like, and their Jaccard similarity; that text is kept itself.
        passed_over: pairs in crowded buckets that were not compared: near copies may be missing where texts share a
            template.
    """

    exact: dict[int, int]
    near: dict[int, tuple[int, float]]
    passed_over: int

    @property
    def copy_of(self) -> dict[int, int]:
        """The kept text of each copy, exact or near."""
        merged = {copy: first for copy, (first, _) in self.near.items()}
        return merged | {copy: merged.get(first, first) for copy, first in self.exact.items()}

    def clusters(self) -> list[list[int]]:
        """Return the groups of copies, each with the kept text first."""
        groups = defaultdict(list)
        for copy, first in sorted(self.copy_of.items()):
            groups[first].append(copy)
        return [[first, *copies] for first, copies in sorted(groups.items())]


def find_duplicates(
    texts: Sequence[str], *, limit: float = 0.8, runs: Sequence[np.ndarray] | None = None
) -> Duplicates:
    """Find copies and near copies; each is compared exactly with the text it is said to be like.

    Near copies share at least ``limit`` of their runs of three words (Jaccard similarity). A text that is like a copy,
    but not like the text that is kept, is no copy. Texts without words are never near copies; empty ones are no copies.

    Args:
        texts: the texts.
        limit: the share.
        runs: the ``shingles`` of the texts, where they are known.

    Raises:
        LabkitError: something is no text, ``limit`` is not above 0 and at most 1, or datasketch is missing.
    """
    limit = require_share(limit)
    require_texts(texts)
    first: dict[str, int] = {}
    exact = {}
    for number, text in enumerate(texts):
        if (plain := normal(text)) and (earlier := first.setdefault(plain, number)) != number:
            exact[number] = earlier
    rows, sets = [], []
    for number in first.values():
        if len(found := shingles(texts[number]) if runs is None else runs[number]):
            rows.append(number)
            sets.append(found)
    pairs, passed = candidates(signatures(sets), limit)
    links = defaultdict(list)
    for a, b in pairs.tolist():
        links[b].append(a)
    near: dict[int, tuple[int, float]] = {}
    kept_for: dict[int, int] = {}
    for b in sorted(links):
        options = sorted({kept_for.get(a, a) for a in links[b]} | {a for a in links[b] if a not in kept_for})
        best = max((jaccard(sets[a], sets[b]), -a) for a in options)
        if best[0] >= limit:
            kept_for[b] = -best[1]
            near[rows[b]] = (rows[-best[1]], best[0])
    return Duplicates(exact, near, passed)
