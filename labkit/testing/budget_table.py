"""The README's table of notebooks, with the figures of ``data/budget.json``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

FAST, SLOW = "AVX512-BF16", "AVX2"
ROW = re.compile(
    r"^\| (?P<number>\d\d) \| (?P<text>.*) \| (?P<slow>\S+) \| (?P<fast>\S+) \| (?P<gb>\S+) \| (?P<count>\S+) \|$"
)


def with_figures(text: str, stored: Mapping[str, Any]) -> str:
    """Return the README with each figure that is stored in place of the one in the table.

    A row holds minutes on a processor without arithmetic in 16 bits and on one with it, the larger of both peaks, and
    10¹² operations. What isn't stored stays as it is.
    """
    return "\n".join(_row(line, stored) for line in text.split("\n"))


def _row(line: str, stored: Mapping[str, Any]) -> str:
    row = ROW.match(line)
    if not row:
        return line
    slow, fast, count = (
        next((of[name] for name in of if name.startswith(f"{row['number']}_")), None)
        for of in (stored["kinds"].get(SLOW, {}), stored["kinds"].get(FAST, {}), stored["operations"])
    )
    cells = [
        f"{slow['seconds'] / 60:.1f}" if slow else row["slow"],
        f"{fast['seconds'] / 60:.1f}" if fast else row["fast"],
        f"{max(slow['peak_bytes'], fast['peak_bytes']) / 1e9:.1f}" if slow and fast else row["gb"],
        f"{count['count'] / 1e12:.2g}" if count else row["count"],
    ]
    return f"| {row['number']} | {row['text']} | {' | '.join(cells)} |"
