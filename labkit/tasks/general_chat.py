"""General conversations, hand-written: what an assistant should still be able to do after it learned a task."""

from __future__ import annotations

import json

from labkit.errors import unknown
from labkit.storage.cache import course_data

SPLITS = ("test", "replay")


def general_chat(split: str = "test") -> list[list[dict[str, str]]]:
    """Return conversations of ``data/instructions.jsonl``; its card says how they were written.

    Args:
        split: ``"test"`` to measure on, or ``"replay"`` to train on: every second conversation of each kind.

    Raises:
        LabkitError: there is no such split.
    """
    if split not in SPLITS:
        raise unknown("split of the general conversations", split, SPLITS)
    rows = [
        json.loads(line) for line in (course_data() / "instructions.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    by_kind = sorted(rows, key=lambda row: row["kind"])  # sorting keeps the order within a kind
    return [row["messages"] for row in by_kind[SPLITS.index(split) :: 2]]
