"""Labels: whether completions are labels, and which labels look alike but are not the same."""

from __future__ import annotations

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable

from labkit.tasks.faults import Faults
from labkit.tasks.row import Row

INVISIBLE = dict.fromkeys(map(ord, "\u200b\u200c\u200d\u2060\ufeff"))
MOST = 50  # more different completions are free text, unless the data call them labels


def are_labels(rows: list[Row], *, named: bool) -> bool:
    """Return whether completions are labels: at most 50 different ones, and at least four rows for each on average.

    Args:
        rows: all examples.
        named: whether the data call them labels; then there may be more than 50.
    """
    count = len({plain_label(completion) for completion in {row.completion for row in rows}})
    return count <= max(2, min(len(rows) if named else MOST, len(rows) // 4))


def plain_label(label: str) -> str:
    """Return a label without invisible characters, and with single spaces for all white space inside."""
    return " ".join(unicodedata.normalize("NFC", label).translate(INVISIBLE).split())


def space_to_label(row: Row) -> Row:
    """Move a space from the end of the prompt to the beginning of the label; the whole text is the same."""
    if row.prompt.endswith(" ") and not row.completion[0].isspace() and row.prompt[-2:].strip():
        return row._replace(prompt=row.prompt[:-1], completion=f" {row.completion}")
    return row


def differ_unseen(labels: Counter) -> bool:
    """Return whether some labels differ only by white space or invisible characters."""
    return bool(_variants(labels, plain_label))


def merging(labels: Counter) -> tuple[dict[str, str], list[str]]:
    """Choose the most frequent spelling of labels that differ only by case, white space or invisible characters.

    Returns:
        The spelling for each label that has variants, and a note for each spelling that was chosen.
    """
    spelling: dict[str, str] = {}
    notes = []
    for variants in _variants(labels, lambda label: plain_label(label).casefold()):
        (most, _), *others = variants.most_common()
        best = f"{most[: len(most) - len(most.lstrip())]}{plain_label(most)}"
        spelling |= dict.fromkeys(variants, best)
        count = sum(count for _, count in others)
        what = ", ".join(repr(label.removeprefix(" ")) for label, _ in others)
        notes.append(f"merged into the label {best.strip()!r}: {count:,} written as {what}")
    return spelling, notes


def find_unseen(rows: list[Row], labels: Counter, faults: Faults) -> list[Row]:
    """Return the rows, without those whose label differs invisibly from a more frequent one.

    A model could not know which of the two to give, so these rows go to ``faults``.
    """
    usual = {label: counts.most_common(1)[0] for counts in _variants(labels, plain_label) for label in counts}
    kept = []
    for row in rows:
        most, count = usual.get(row.completion, (row.completion, 0))
        if row.completion == most:
            kept.append(row)
            continue
        what = f"after its prompt, the label {row.completion!r} differs from {most!r} ({count:,}×)"
        fix = "merge_labels=True writes such labels alike."
        faults.add(row.number, f"{what} only by white space or characters that can't be seen", fix)
    return kept


def differ_by_case(parts: list[tuple[list[Row], Callable[[int], str]]]) -> list[str]:
    """Return a note for each group of labels that differ only by upper and lower case, with places of the rarer.

    Args:
        parts: rows that were given together, and a function that says how to find a row by its number.
    """
    notes = []
    for variants in _variants(Counter(row.completion for rows, _ in parts for row in rows), str.casefold):
        (most, count), *others = variants.most_common()
        rare = dict(others)
        at = [where(row.number) for rows, where in parts for row in rows if row.completion in rare]
        names = " and ".join(f"{label.strip()!r} ({number:,}×)" for label, number in [(most, count), *others])
        notes.append(
            f"the labels {names} differ only by upper and lower case and count as {len(variants)} "
            f"({', '.join(at[:3])}{', …' if len(at) > 3 else ''}); merge_labels=True makes them one"
        )
    return notes


def _variants(labels: Counter, key: Callable[[str], str]) -> list[Counter]:
    """Group labels with the same ``key``, and return the counts of each group with several labels."""
    groups: dict[str, Counter] = defaultdict(Counter)
    for label, count in labels.items():
        groups[key(label)][label] = count
    return [counts for _, counts in sorted(groups.items()) if len(counts) > 1]
