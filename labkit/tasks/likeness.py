"""Split examples into training and test sets so that no test text has a near copy in training."""

from __future__ import annotations

import random
import re
from collections import Counter, defaultdict

WORD = re.compile(r"[^\W\d_]+")
NUMBER = re.compile(r"\d+")
# A character of a script without spaces, a number or word, or a sign that changes a meaning (+, <, #).
UNSPACED = r"\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"
TOKEN = re.compile(rf"[{UNSPACED}]|[^\W{UNSPACED}]+|[^\w\s.,;:!?\"'()…“”’]")


def shingles(text: str, size: int = 2) -> frozenset[tuple[str, ...]]:
    """Return the runs of ``size`` words in a text, without case, numbers and punctuation."""
    words = WORD.findall(text.lower())
    return frozenset(tuple(words[i : i + size]) for i in range(max(1, len(words) - size + 1)))


def similarity(a: frozenset, b: frozenset) -> float:
    """Return the Jaccard similarity of two shingle sets, 0 (nothing shared) to 1 (same words)."""
    shared = len(a & b)
    return shared / (len(a) + len(b) - shared) if shared else 0.0


def split(
    rows: list[dict],
    train: int,
    test: int,
    seed: int,
    *,
    text: str = "text",
    label: str = "label",
    limit: float = 0.5,
) -> tuple[list[dict], list[dict]]:
    """Draw a balanced test set, then a balanced training set that shares nothing with it.

    Classes take turns until the set is full or all are empty. A row may enter the training set only if
    its similarity to every test row is below ``limit``. The test set depends on ``seed`` and ``test``
    alone: more training data never changes what is tested.
    """
    order = list(range(len(rows)))
    random.Random(seed).shuffle(order)
    chosen = _take_turns(rows, order, label, test, share=1 / 3)  # leave most of a small class to train on
    test_rows = [rows[i] for i in chosen]
    # Only test rows that share a shingle can be similar: an index of shingles finds those few.
    sets = [shingles(row[text]) for row in test_rows]
    holders = defaultdict(list)
    for number, items in enumerate(sets):
        for item in items:
            holders[item].append(number)

    def is_clean(index: int) -> bool:
        mine = shingles(rows[index][text])
        rivals = {number for item in mine for number in holders.get(item, ())}
        return all(similarity(mine, sets[number]) < limit for number in rivals)

    taken = set(chosen)
    rest = [i for i in order if i not in taken]
    return [rows[i] for i in _take_turns(rows, rest, label, train, is_clean)], test_rows


def _take_turns(rows, order, label, count, accept=lambda index: True, share=1.0) -> list[int]:
    queues = defaultdict(list)
    for index in reversed(order):  # reversed, so that pop() takes them in order
        queues[rows[index][label]].append(index)
    names = sorted(queues)
    floor = {name: len(queue) * (1 - share) for name, queue in queues.items()}
    taken: list[int] = []
    while names and len(taken) < count:
        for name in list(names):
            while queues[name] and not accept(queues[name][-1]):
                queues[name].pop()
            if len(queues[name]) <= floor[name]:
                names.remove(name)
            elif len(taken) < count:
                taken.append(queues[name].pop())
    return taken


def near_copies(train: list[str], test: list[str], *, limit: float = 0.5) -> list[tuple[int, int]]:
    """Return the training texts that are nearly copies of a test text, with the first such test text.

    As in ``split``, texts are alike when they share at least ``limit`` of their runs of two words. Here
    signs are words too, and texts with other numbers are never alike: "12 + 30" is neither "12 - 30" nor
    "12 + 31". A run that more than a tenth of the texts hold, such as an instruction before each input, is
    no likeness. Pairs of indices, in the order of ``train``.
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
        mine, values = _runs(text) - common, set(NUMBER.findall(text))
        rivals = sorted({rival for run in mine for rival in holders.get(run, ()) if numbers[rival] == values})
        if alike := [rival for rival in rivals if similarity(mine, sets[rival]) >= limit]:
            pairs.append((index, alike[0]))
    return pairs


def _runs(text: str) -> frozenset[tuple[str, ...]]:
    words = TOKEN.findall(text.lower())
    return frozenset(tuple(words[i : i + 2]) for i in range(max(1, len(words) - 1))) if words else frozenset()
