"""Hand-written pairs on tone and honesty: ``data/preferences.jsonl``; its card says how they were written."""

from __future__ import annotations

import json

from labkit.storage.cache import course_data
from labkit.tasks.course import course_split


def tone_split(train: int, test: int, seed: int) -> tuple[list[dict], list[dict], dict[str, int]]:
    """Draw pairs for training and for testing, evenly over the kinds; a third of each kind, at most, is tested.

    Of each kind, half of the drawn pairs have the longer reply chosen and half the shorter one, while there are some.

    Returns:
        Rows for training and for testing, each with id, kind (why the rejected reply is wrong), and prompt, chosen and
        rejected as lists of messages; and that none is left out.
    """
    rows = []
    for line in (course_data() / "preferences.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        chosen, rejected = (len(row[side][0]["content"]) for side in ("chosen", "rejected"))
        text = "\n".join(message["content"] for side in ("prompt", "chosen", "rejected") for message in row[side])
        rows.append(row | {"text": text, "label": f"{row['kind']} {chosen > rejected}"})
    parts = course_split(rows, train, test, seed)
    learned, tested = (
        [{key: row[key] for key in row if key not in ("text", "label")} for row in part] for part in parts
    )
    return learned, tested, {}
