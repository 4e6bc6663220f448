"""What a learner should know about the task that was made from their data."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable

from labkit.tasks.own import Own
from labkit.tasks.row import Row, listed, plain, short
from labkit.tasks.split import ALIKE, COPIES, Split

EXAMPLES = 3


def notes_on(split: Split, own: Own, train: int | None, test: int | None) -> list[str]:
    """Return notes on how a learner's data were split.

    Args:
        split: the result.
        own: the data.
        train, test: how many examples were asked for; None by default.
    """
    rows = own.train + (own.test or [])
    notes = _on_counts(split, len(rows), train, test, given=own.test is not None)
    if own.has_labels:
        notes += _on_labels(split, rows, own.where)
    if split.copied:
        notes.append(
            f"training examples whose prompt is that of a test example: {split.copied:,}. They were kept, since the "
            "split was given, and flatter the model"
        )
    return notes + _on_likeness(split)


def _on_counts(split: Split, total: int, train: int | None, test: int | None, *, given: bool) -> list[str]:
    left_out = []
    if count := split.left_out.get(COPIES):
        left_out.append(f"left out, since their prompt is that of a test example: {count:,}")
    got = (len(split.train), len(split.test))
    asked = [(name, count) for name, count in (("train", train), ("test", test)) if count is not None]
    short_of = [(name, count) for name, count in asked if count > got[name == "test"]]
    if not short_of:
        return left_out
    why = [f"there are {total:,} examples", *left_out]
    if not given and test is not None and got[1] < test:
        why.append("at most half of those that differ, and half of each label's, go to the test set")
    if count := split.left_out.get(ALIKE):
        why.append(f"near copies of test examples were dropped: {count:,}")
    numbers = " and ".join(f"{name}={count:,}" for name, count in asked)
    return [f"asked for {numbers}, got {got[0]:,} to train on and {got[1]:,} to test: {'; '.join(why)}"]


def _on_labels(split: Split, rows: list[Row], where: Callable[[int], str]) -> list[str]:
    notes = []
    counts = Counter(row.completion for row in rows)
    if len(counts) == 1:
        notes.append(
            f"all examples have the same label, {next(iter(counts)).strip()!r}: there is nothing to tell apart"
        )
    trained, tested = ({row.completion for row in part} for part in (split.train, split.test))
    if lone := {
        row.completion: row.number for row in rows if counts[row.completion] == 1 and row.completion in trained
    }:
        names = [f"{label.strip()!r} ({where(lone[label])})" for label in sorted(lone)]
        more = f" and {len(names) - 5:,} more" if len(names) > 5 else ""
        notes.append(
            f"labels with a single example, which goes to training and can't be tested: {', '.join(names[:5])}{more}"
        )
    for known, what in ((trained, "to train on"), (tested | lone.keys(), "to test")):
        if missing := [label.strip() for label in sorted(counts.keys() - known)]:
            notes.append(f"no example {what} of {len(missing)} of {len(counts)} labels: {listed(missing)}")
    first: dict[str, str] = {}
    answers: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        label = first.setdefault(prompt := plain(row.prompt), row.completion)
        if label != row.completion:
            answers[prompt] |= {label, row.completion}
    if answers:
        unsure = min(answers)
        labels = listed([label.strip() for label in sorted(answers[unsure])])
        notes.append(f"prompts that come with several labels: {len(answers):,}, such as {short(unsure)} with {labels}")
    return notes


def _on_likeness(split: Split) -> list[str]:
    if not split.alike:
        return []
    dropped = ALIKE in split.left_out
    fate = (
        "They were left out"
        if dropped
        else 'They were kept, so the test may flatter the model; near_duplicates="drop" leaves them out'
    )
    examples = []
    for a, b in ((first.prompt, second.prompt) for first, second in split.alike[:EXAMPLES]):
        differ = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), 0)
        seen = [short(text if differ < 40 else f"…{text[differ - 20 :]}") for text in (a, b)]
        examples.append(f"\n    trains on {seen[0]}\n    and tests {seen[1]}")
    return [
        f"training examples that are near copies of a test example: {len(split.alike):,}. {fate}:{''.join(examples)}"
    ]
