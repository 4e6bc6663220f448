"""Texts as runs of words, hashed to 64 bits."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from hashlib import blake2b

import numpy as np

from labkit.errors import LabkitError, require_number, shown

# Scripts without spaces: each character counts as a word.
UNSPACED = r"\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff"
WORD = re.compile(rf"[{UNSPACED}]|[^\W{UNSPACED}]+")


def normal(text: str) -> str:
    """Return a text in one spelling: NFKC, without case, with single spaces for all white space."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def words(text: str) -> list[str]:
    """Return the words of a text in its normal spelling; numbers are words, punctuation is not."""
    return WORD.findall(normal(text))


@lru_cache(maxsize=1 << 18)
def _hashed(word: str) -> int:
    return int.from_bytes(blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


def unframed(texts: Sequence[str]) -> list[str]:
    """Return texts without the words that all of them begin and end with, such as a task's template.

    Nothing is taken away where a text would be nothing but that.
    """
    head, tail = _shared(texts), _shared([text[::-1] for text in texts])
    if any(len(text) <= head + tail for text in texts):
        return list(texts)
    return [text[head : len(text) - tail] for text in texts]


def _shared(texts: Sequence[str]) -> int:
    """Return how many characters all texts begin with, up to the last white space among them."""
    first, last = min(texts, default=""), max(texts, default="")  # what these share, all texts between them share
    same = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
    return max((i + 1 for i in range(same) if first[i].isspace()), default=0)


def shingles(text: str, size: int = 3) -> np.ndarray:
    """Return the different runs of ``size`` words, sorted, as uint64 hashes; a shorter text is one run.

    The hashes are the same on every computer. Two different runs share one with a probability of 2⁻⁶⁴.
    """
    ids = np.array([_hashed(word) for word in words(text)], dtype=np.uint64)
    runs = max(1, len(ids) - size + 1) if len(ids) else 0
    total = np.zeros(runs, dtype=np.uint64)
    for offset in range(min(size, len(ids))):
        total = total * np.uint64(0x9E3779B97F4A7C15) + ids[offset : offset + runs]
        total ^= total >> np.uint64(29)  # without it, the order of words would hardly count
    return np.unique(total)


def jaccard(a: np.ndarray, b: np.ndarray) -> float:
    """Return the share of all runs of two texts that both have, 0 to 1."""
    shared = len(np.intersect1d(a, b, assume_unique=True))
    return shared / (len(a) + len(b) - shared) if shared else 0.0


def require_texts(*parts: Sequence[str]) -> None:
    """Raise a ``LabkitError`` unless all are texts."""
    for part in parts:
        for text in part:
            if not isinstance(text, str):
                raise LabkitError(f"{shown(text)} is not a text.", "Pass lists of texts.")


def require_share(limit: float) -> float:
    """Return a share above 0 and at most 1; raise a ``LabkitError`` for another number."""
    limit = require_number("limit", limit, above=0.0)
    if limit > 1:
        raise LabkitError(f"limit must be at most 1, not {limit}.", "0.8 is usual.")
    return limit
