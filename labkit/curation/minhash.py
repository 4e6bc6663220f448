"""Candidates for near copies: MinHash signatures (Broder, 1997), compared band by band."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from labkit.extras import unusable

BANDS, ROWS = 25, 5  # two texts that share 80% of their runs agree in some band with a probability of 99.99%
WINDOW = 20  # rows of a bucket that each row is compared with; copies are found through each other
MARGIN = 0.25  # below the limit, in estimated similarity: more than five standard deviations of 125 values


def signatures(sets: Sequence[np.ndarray]) -> np.ndarray:
    """Return a signature for each set of hashes: (rows, 125), uint32.

    Raises:
        LabkitError: datasketch is missing.
    """
    try:
        from datasketch import MinHash
    except ImportError as problem:
        raise unusable("datasketch", problem) from problem
    made = np.zeros((len(sets), BANDS * ROWS), dtype=np.uint32)
    halves = ((each >> np.uint64(32)).tolist() for each in sets)
    for number, sketch in enumerate(MinHash.generator(halves, num_perm=BANDS * ROWS, hashfunc=int)):
        made[number] = sketch.hashvalues
    return made


def candidates(signed: np.ndarray, limit: float) -> tuple[np.ndarray, int]:
    """Return pairs of rows that may be similar, (pairs, 2), and how many pairs of full buckets were passed over.

    Rows are in one bucket if all values of a band agree. In a bucket of more than 20 rows each is compared with the
    20 that follow it in the order of the next bands, so that the likeliest are neighbours.
    """
    keys = [np.ascontiguousarray(signed[:, i * ROWS : (i + 1) * ROWS]).view(f"V{4 * ROWS}")[:, 0] for i in range(BANDS)]
    ranks = [np.unique(key, return_inverse=True)[1] for key in keys]
    found, passed = [np.empty((0, 2), dtype=np.int64)], 0
    for band in range(BANDS):
        order = np.lexsort((ranks[(band + 2) % BANDS], ranks[(band + 1) % BANDS], ranks[band]))
        rank = ranks[band][order]
        counts = np.bincount(rank)
        passed += int(sum((n - WINDOW) * (n - WINDOW - 1) // 2 for n in counts[counts > WINDOW + 1].tolist()))
        for step in range(1, WINDOW + 1):
            (at,) = np.nonzero(rank[step:] == rank[:-step])
            if not len(at):
                break
            pairs = np.sort(np.stack([order[at], order[at + step]], axis=1), axis=1)
            found.append(_likely(signed, pairs, limit))
        found = [np.unique(np.concatenate(found), axis=0)]
    return found[0], passed


def _likely(signed: np.ndarray, pairs: np.ndarray, limit: float) -> np.ndarray:
    kept = []
    for start in range(0, len(pairs), 50_000):  # 50 MB at a time
        part = pairs[start : start + 50_000]
        kept.append(part[(signed[part[:, 0]] == signed[part[:, 1]]).mean(axis=1) >= limit - MARGIN])
    return np.concatenate(kept)
