"""Split a learner's examples into a training and a test set; every example that is in neither is counted."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from dataclasses import dataclass, field

from labkit.tasks.likeness import copies, near_copies
from labkit.tasks.row import Row, plain
from labkit.tasks.stratified import in_proportion

# The size of the test set if none is asked for: a share of the examples, at most a number.
TEST_SHARE, TEST_COUNT = 0.3, 300


@dataclass
class Split:
    """The examples of both sets, why others are in neither, and which are near copies.

    Attributes:
        train, test: the examples.
        left_out: how many are in neither, by reason.
        alike: training examples that are near copies of a test example, each with that one.
        copied: how many training examples have the prompt of a test example; only a given split has such examples.
    """

    train: list[Row]
    test: list[Row]
    left_out: dict[str, int] = field(default_factory=dict)
    alike: list[tuple[Row, Row]] = field(default_factory=list)
    copied: int = 0


COPIES = "prompt of a test example"
ALIKE = "near copy of a test example"
NOT_DRAWN = "not asked for"


def split_own(
    rows: list[Row],
    train: int | None,
    test: int | None,
    seed: int,
    *,
    has_labels: bool,
    has_pairs: bool = False,
    balanced: bool = False,
    drop: bool = False,
) -> Split:
    """Draw a test set, then a training set that holds no copy of a test example.

    Both are drawn at random by ``seed``; with labels, each label gets its share of both sets, give or take
    one. At most half of the examples, and half of each label's, go to the test set: a label's only
    example goes to training. The test set depends on ``seed`` and ``test`` alone, and a smaller
    training set is the beginning of a larger one.

    Args:
        rows: the examples.
        train, test: the most examples of each set; by default three in ten go to the test set, at most 300, and
            all others to training.
        seed: decides which are drawn.
        has_labels: whether the completions are labels.
        has_pairs: whether the rows are pairs of replies: all pairs of a prompt then go to the same set.
        balanced: give each label the same number of examples rather than its share.
        drop: leave near copies of test examples out of training.
    """
    test = max(1, min(TEST_COUNT, round(TEST_SHARE * len(rows)))) if test is None else test
    dice = random.Random(seed)
    order = list(range(len(rows)))
    dice.shuffle(order)
    label = (lambda i: rows[i].completion) if has_labels else (lambda i: "")
    same = copies(rows, has_labels or has_pairs)
    groups: dict[int, list[int]] = defaultdict(list)
    for i in order:
        groups[same[i]].append(i)
    counts = Counter(label(members[0]) for members in groups.values())
    room = {name: count // 2 for name, count in counts.items()}
    eligible = []
    for first, *_ in groups.values():
        if room[label(first)]:
            room[label(first)] -= 1
            eligible.append(first)
    # Shares are computed from all examples, so that halving a label of three doesn't make it rarer.
    chosen: list[int] = []
    for first in in_proportion(eligible, label, counts, dice, balanced):
        if len(chosen) >= test:
            break
        answers = {plain(rows[i].completion) if not has_pairs else i: i for i in groups[same[first]]}
        chosen += [*answers.values()][: test - len(chosen)]
    tested = {same[i] for i in chosen}
    del groups
    rest = [i for i in order if same[i] not in tested]
    taken = in_proportion(rest, label, Counter(map(label, rest)), dice, balanced)
    found = Split([rows[i] for i in taken], [rows[i] for i in chosen])
    found.left_out = {COPIES: len(rows) - len(rest) - len(chosen)}
    _limit(found, train, drop)
    return found


def take_given(
    train_rows: list[Row], test_rows: list[Row], train: int | None, test: int | None, seed: int, *, drop: bool = False
) -> Split:
    """Return a given split: whole or, for the sets with a number, a part drawn at random by ``seed``."""
    parts = [
        list(rows) if count is None else random.Random(seed).sample(rows, len(rows))
        for rows, count in ((train_rows, train), (test_rows, test))
    ]
    found = Split(parts[0], parts[1][:test], {NOT_DRAWN: len(test_rows[test:]) if test else 0})
    _limit(found, train, drop)
    asked = {plain(row.prompt) for row in found.test}
    found.copied = sum(plain(row.prompt) in asked for row in found.train)
    if not drop:  # copies are reported as copies, and not as near copies too
        found.alike = [(row, rival) for row, rival in found.alike if plain(row.prompt) not in asked]
    return found


def _limit(found: Split, train: int | None, drop: bool) -> None:
    """Find near copies of test examples, drop them if asked to, and cut the training set to its number."""
    most = len(found.train) if train is None else train
    candidates = found.train if drop else found.train[:most]
    pairs = near_copies([row.prompt for row in candidates], [row.prompt for row in found.test])
    found.alike = [(candidates[i], found.test[j]) for i, j in pairs]
    if drop:
        dropped = {i for i, _ in pairs}
        found.train = [row for i, row in enumerate(found.train) if i not in dropped]
        found.left_out[ALIKE] = len(dropped)
    found.left_out[NOT_DRAWN] = found.left_out.get(NOT_DRAWN, 0) + max(0, len(found.train) - most)
    found.train = found.train[:most]
