"""Sets of pairs of replies: as a Dataset, as texts, and whether length alone tells which reply was chosen."""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow
from datasets import Dataset

from labkit.errors import LabkitError
from labkit.tasks.messages import last_reply

LEAN, FEW = 0.6, 20  # a share of longer replies, and a number of pairs, from which on a note is worth reading


def on_lengths(pairs: Iterable[dict]) -> list[str]:
    """Return a note if the chosen replies are mostly the longer ones, or the shorter ones: that would be learned."""
    lengths = [[len(pair[side][0]["content"]) for side in ("chosen", "rejected")] for pair in pairs]
    unequal = [chosen > rejected for chosen, rejected in lengths if chosen != rejected]
    share = sum(unequal) / max(1, len(unequal))
    if len(unequal) < FEW or 1 - LEAN < share < LEAN:
        return []
    what, share = ("longer", share) if share > 0.5 else ("shorter", 1 - share)
    return [
        f"the chosen reply is the {what} one in {share:.0%} of the pairs: a model may learn length for what you prefer"
    ]


def pairs_dataset(rows: list[dict]) -> Dataset:
    """Return pairs as a Dataset with all columns that any of them has.

    Raises:
        LabkitError: a column holds values of different types, which a Dataset can't.
    """
    columns = {name: [row.get(name) for row in rows] for name in dict.fromkeys(name for row in rows for name in row)}
    for name, values in columns.items():
        try:
            Dataset.from_dict({name: values})
        except (pyarrow.ArrowException, TypeError, OverflowError) as problem:
            kinds = sorted({type(value).__name__ for value in values if value is not None})
            raise LabkitError(
                f"The column {name} holds values of different types, {' and '.join(kinds)}.",
                "Write all of them as texts, or leave the column out.",
            ) from problem
    return Dataset.from_dict(columns)


def read_texts(rows: Dataset, *, shown: bool = False) -> list[tuple[str, str]]:
    """Return prompt and completion of each row; of a pair as texts, with the longer reply, or to show with both."""
    if "chosen" not in rows.column_names:
        return list(zip(rows["prompt"][:], rows["completion"][:], strict=True))
    found = []
    for row in rows:
        prompt, chosen = last_reply([*row["prompt"], *row["chosen"]])
        rejected = row["rejected"][0]["content"]
        found.append((prompt, f" {chosen}\nRejected: {rejected}" if shown else f" {max(chosen, rejected, key=len)}"))
    return found
