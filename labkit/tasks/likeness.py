"""Which texts are copies, or near copies, of others."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from itertools import pairwise

from labkit.tasks.row import Row, plain

WORD = re.compile(r"[^\W\d_]+")
NUMBER = re.compile(r"\d+")
# A character of a script without spaces, a number or word, or a sign that changes a meaning (+, <, #).
UNSPACED = r"\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"
TOKEN = re.compile(rf"[{UNSPACED}]|[^\W{UNSPACED}]+|[^\w\s.,;:!?\"'()…“”’]")


def shingles(text: str, size: int = 2) -> frozenset[tuple[str, ...]]:
    """Return the runs of ``size`` words in a text, regardless of case, numbers and punctuation."""
    words = WORD.findall(text.lower())
    return frozenset(tuple(words[i : i + size]) for i in range(max(1, len(words) - size + 1)))


def similarity(a: frozenset, b: frozenset) -> float:
    """Return the Jaccard similarity of two shingle sets, 0 (nothing shared) to 1 (same words)."""
    shared = len(a & b)
    return shared / (len(a) + len(b) - shared) if shared else 0.0


def copies(rows: list[Row], has_labels: bool) -> list[int]:
    """Return a number for each row, the same for copies: rows with the same prompt, whatever the white space.

    If most prompts have several answers, such as poems on a few subjects, copies have the same answer as well.
    """
    numbers: dict[str, int] = {}
    by_prompt = [numbers.setdefault(plain(row.prompt), len(numbers)) for row in rows]
    if has_labels:
        return by_prompt
    pairs: dict[tuple[int, str], int] = {}
    by_pair = [pairs.setdefault((i, plain(row.completion)), len(pairs)) for i, row in zip(by_prompt, rows, strict=True)]
    return by_pair if len(pairs) > 2 * len(numbers) else by_prompt


def near_copies(train: list[str], test: list[str], *, limit: float = 0.5) -> list[tuple[int, int]]:
    """Return the training texts that are near copies of a test text, each with the first such test text.

    Texts are near copies if they share more than ``limit`` of their runs of two words: "How do I reset my password?"
    and "How do I reset my address?", in a set of such questions, share just half. Here symbols are words too, and texts
    with different numbers are never near copies: "12 + 30" is neither "12 - 30" nor "12 + 31". Runs that more than a
    tenth of the texts contain, such as an instruction before each input, do not count.

    Returns:
        Pairs of indices into ``train`` and ``test``, in the order of ``train``.
    """
    sample = [_runs(text) for text in train[:2000] + test]
    seen = Counter(run for runs in sample for run in runs)
    often = max(10, len(sample) / 10)
    common = {run for run, count in seen.items() if count > often or count == len(sample)}
    sets = [_runs(text) - common for text in test]
    numbers = [set(NUMBER.findall(text)) for text in test]
    holders = defaultdict(list)
    for rival, runs in enumerate(sets):
        for run in runs:
            holders[run].append(rival)
    pairs = []
    for index, text in enumerate(train):
        if holders.keys().isdisjoint(mine := _runs(text) - common):
            continue
        values = set(NUMBER.findall(text))
        rivals = sorted({rival for run in mine for rival in holders.get(run, ()) if numbers[rival] == values})
        if alike := [rival for rival in rivals if similarity(mine, sets[rival]) > limit]:
            pairs.append((index, alike[0]))
    return pairs


def _runs(text: str) -> frozenset[tuple[str, ...]]:
    words = TOKEN.findall(text.lower())
    return frozenset(pairwise(words)) if len(words) > 1 else frozenset([tuple(words)] * len(words))
