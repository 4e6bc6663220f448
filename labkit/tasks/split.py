"""Split a learner's own examples into a training and a test set, at random and without losing any in silence."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable

from labkit.tasks.likeness import near_copies


def split_own(
    rows: list[dict], train: int, test: int, seed: int, *, has_labels: bool
) -> tuple[list[dict], list[dict], list[str]]:
    """Draw a test set, then a training set that holds no copy of a test example.

    Both are drawn at random by ``seed``; with labels, each label gets its share of both sets, give or take
    one. At most half of the examples, and half of each label's, are held back to test: a label with a single
    example is there to be learnt. The test set depends on ``seed`` and ``test`` alone, and a smaller
    training set is the beginning of a larger one.

    Returns:
        Training rows, test rows, and what should be said about them.
    """
    dice = random.Random(seed)
    order = list(range(len(rows)))
    dice.shuffle(order)
    label = (lambda i: rows[i]["label"]) if has_labels else (lambda i: "")
    same = _sameness(rows, has_labels)
    groups = defaultdict(list)
    for i in order:
        groups[same[i]].append(i)
    counts = Counter(label(members[0]) for members in groups.values())
    room = {name: count // 2 for name, count in counts.items()}
    eligible = []
    for first, *_ in groups.values():
        if room[label(first)]:
            room[label(first)] -= 1
            eligible.append(first)
    # Their shares are those of all examples, so that halving a label of three doesn't make it rarer.
    chosen: list[int] = []
    for first in _in_proportion(eligible, label, counts, dice):
        answers = {" ".join(rows[i]["completion"].split()): i for i in groups[same[first]]}
        chosen += [*answers.values()][: test - len(chosen)]
    tested = {same[i] for i in chosen}
    rest = [i for i in order if same[i] not in tested]
    taken = _in_proportion(rest, label, Counter(map(label, rest)), dice)[:train]
    train_rows, test_rows = [rows[i] for i in taken], [rows[i] for i in chosen]
    copies = len(rows) - len(rest) - len(chosen)
    notes = _on_counts(train, test, len(taken), len(chosen), len(rows), copies)
    if has_labels:
        notes += _on_labels(rows, train_rows, test_rows, counts)
    return train_rows, test_rows, notes + _on_likeness(train_rows, test_rows)


def _sameness(rows: list[dict], has_labels: bool) -> list[Hashable]:
    """Return a value for each row that copies of it share: its prompt, whatever the white space.

    Where most prompts have several answers, such as poems on a few subjects, the answer counts as well.
    """
    prompts = [" ".join(row["prompt"].split()) for row in rows]
    pairs = [(prompt, " ".join(row["completion"].split())) for prompt, row in zip(prompts, rows, strict=True)]
    return pairs if not has_labels and len(set(pairs)) > 2 * len(set(prompts)) else prompts


def _in_proportion(indices: list[int], label: Callable[[int], str], counts: Counter, dice: random.Random) -> list[int]:
    """Order indices so that any beginning holds each label in proportion to its count.

    A label's examples are laid out at equal distances, 1/count, from a random start: systematic sampling
    (Madow and Madow, 1944).
    """
    members = defaultdict(list)
    for i in indices:
        members[label(i)].append(i)
    place = {}
    for name in sorted(members):
        start = dice.random()
        place |= {i: (k + start) / counts[name] for k, i in enumerate(members[name])}
    return sorted(place, key=place.__getitem__)


def _on_counts(train: int, test: int, got_train: int, got_test: int, total: int, copies: int) -> list[str]:
    left_out = [f"left out, since their prompt is that of a test example: {copies:,}"] if copies else []
    if (got_train, got_test) == (train, test):
        return left_out
    why = [f"there are {total:,} examples", *left_out]
    if got_test < test:
        why.append("at most half of those that differ, and half of each label's, go to the test set")
    return [f"asked for train={train:,} and test={test:,}, got {got_train:,} and {got_test:,}: {'; '.join(why)}"]


def _on_labels(rows: list[dict], train_rows: list[dict], test_rows: list[dict], counts: Counter) -> list[str]:
    notes = []
    if lone := sorted(name for name, count in counts.items() if count == 1):
        notes.append(f"labels with a single example, which goes to training and can't be tested: {_listed(lone)}")
    for rest, where in ((train_rows, "to train on"), (test_rows, "to test")):
        missing = counts.keys() - {row["label"] for row in rest} - (set(lone) if where == "to test" else set())
        if missing:
            notes.append(f"no example {where} of {len(missing)} of {len(counts)} labels: {_listed(sorted(missing))}")
    answers = defaultdict(set)
    for row in rows:
        answers[" ".join(row["prompt"].split())].add(row["label"])
    if unsure := sorted(prompt for prompt, labels in answers.items() if len(labels) > 1):
        labels = _listed(sorted(answers[unsure[0]]))
        notes.append(
            f"prompts that come with several labels: {len(unsure):,}, such as {_short(unsure[0])} with {labels}"
        )
    return notes


def _on_likeness(train_rows: list[dict], test_rows: list[dict]) -> list[str]:
    pairs = near_copies([row["prompt"] for row in train_rows], [row["prompt"] for row in test_rows])
    if not pairs:
        return []
    a, b = train_rows[pairs[0][0]]["prompt"], test_rows[pairs[0][1]]["prompt"]
    differ = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), 0)
    a, b = (_short(text if differ < 40 else f"…{text[differ - 20 :]}") for text in (a, b))
    return [
        f"training examples that are near copies of a test example: {len(pairs):,}. They were kept, so the test may "
        f"flatter the model. One trains on {a} and tests {b}"
    ]


def _listed(names: list[str], shown: int = 5) -> str:
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(repr(name.strip()) for name in names[:shown]) + more


def _short(text: str, width: int = 70) -> str:
    return repr(text if len(text) <= width else f"{text[: width - 1]}…")
