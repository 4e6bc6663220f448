"""Which test texts also occur among the training texts."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from math import ceil
from typing import NamedTuple

import numpy as np

from labkit.curation.words import jaccard, normal, require_share, require_texts, shingles


class Leak(NamedTuple):
    """A training text that gives a test text away.

    Attributes:
        test, train: their indices.
        kind: ``"exact"`` (equal after normalisation), ``"near"`` (similar) or ``"contained"`` (within a longer text).
        share: the Jaccard similarity if near, else the share of the test text's runs that the training text has.
    """

    test: int
    train: int
    kind: str
    share: float


def find_leaks(
    train: Sequence[str],
    test: Sequence[str],
    *,
    limit: float = 0.8,
    trained: Sequence[np.ndarray] | None = None,
) -> list[Leak]:
    """Return every training text that gives a test text away, in the order of the test, then of the training texts.

    A test text is given away by an equal text, by one that shares ``limit`` of both texts' runs of three words, or by
    one that has ``limit`` of the test text's runs. No leak is missed: a training text with a share ``limit`` of m runs
    has one of any m − ⌈limit · m⌉ + 1 of them, so it is enough to look the rarest ones up (Chaudhuri et al., 2006).
    Of a test text with fewer than four words only equal texts count: such words are in many texts.

    Args:
        train, test: the texts.
        limit: the share.
        trained: the ``shingles`` of the training texts, where they are known.

    Raises:
        LabkitError: something is no text, or ``limit`` is not above 0 and at most 1.
    """
    limit = require_share(limit)
    require_texts(train, test)
    plain = defaultdict(list)
    for number, text in enumerate(test):
        plain[normal(text)].append(number)
    plain.pop("", None)
    sets = [shingles(text) for text in test]
    trained = [shingles(text) for text in train] if trained is None else trained
    flat = np.concatenate([*trained, np.empty(0, dtype=np.uint64)])
    holders = _rarest(flat, sets, limit)
    (places,) = np.nonzero(np.isin(flat, np.array(sorted(holders), dtype=np.uint64)))
    owners = np.repeat(np.arange(len(trained)), [len(runs) for runs in trained])[places]
    rivals: defaultdict[int, set[int]] = defaultdict(set)
    for owner, run in zip(owners.tolist(), flat[places].tolist(), strict=True):
        rivals[owner].update(holders[run])
    leaks = []
    for number, (text, runs) in enumerate(zip(train, trained, strict=True)):
        equal = plain.get(normal(text), [])
        leaks += [Leak(each, number, "exact", 1.0) for each in equal]
        for each in rivals.get(number, set()).difference(equal):
            if (share := jaccard(runs, sets[each])) >= limit:
                leaks.append(Leak(each, number, "near", share))
            elif (share := len(np.intersect1d(runs, sets[each], True)) / len(sets[each])) >= limit:
                leaks.append(Leak(each, number, "contained", share))
    return sorted(leaks)


def _rarest(flat: np.ndarray, sets: list[np.ndarray], limit: float) -> dict[int, list[int]]:
    """Return the test texts by those of their runs that have to be looked up; ``flat`` has all training texts' runs."""
    everything = np.concatenate([*sets, np.empty(0, dtype=np.uint64)])
    values, times = np.unique(flat[np.isin(flat, everything)], return_counts=True)
    counts = Counter(dict(zip(values.tolist(), times.tolist(), strict=True)))
    holders = defaultdict(list)
    for number, runs in enumerate(sets):
        if len(runs) > 1:
            for run in sorted(runs.tolist(), key=lambda run: (counts[run], run))[
                : len(runs) - ceil(limit * len(runs)) + 1
            ]:
                holders[run].append(number)
    return holders
