"""Bars in a page of its own: inline SVG without a script, in the colours of the page."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping
from html import escape
from itertools import pairwise

MOST = 20  # bars of a chart; the rest are one bar
STEP, BAR, LEFT, WIDE = 24, 360, 190, 660  # pixels: from bar to bar, the longest bar, the names, the chart
NAME = 24  # characters of a name


def bars(title: str, counts: Mapping[str, int]) -> str:
    """Return horizontal bars as HTML, one for each count, in the order given; the title is their heading."""
    if not counts:
        return ""
    items = list(counts.items())
    if len(items) > MOST:
        rest = items[MOST - 1 :]
        items = [*items[: MOST - 1], (f"{len(rest):,} others", sum(count for _, count in rest))]
    longest, total = max(count for _, count in items) or 1, sum(counts.values()) or 1
    drawn = "".join(
        _bar(20 + STEP * place, name, count, BAR * count / longest, count / total)
        for place, (name, count) in enumerate(items)
    )
    told = escape(f"{title}: " + ", ".join(f"{name} {count:,}" for name, count in items))
    return (
        f'<figure><figcaption>{escape(title)}</figcaption><svg role="img" aria-label="{told}" '
        f'viewBox="0 0 {WIDE} {STEP * len(items) + 8}" width="{WIDE}">{drawn}</svg></figure>'
    )


def by_length(lengths: Iterable[int]) -> dict[str, int]:
    """Return how many lengths are in each span from 1, 2 or 5 times a power of ten to the next, without empty ends."""
    edges = [step * 10**power for power in range(1, 9) for step in (1, 2, 5)]
    counts = Counter(bisect_left(edges, length) for length in lengths)
    if not counts:
        return {}
    names = ["up to 10", *(f"{low + 1:,} to {high:,}" for low, high in pairwise(edges)), "more"]
    return {names[place]: counts[place] for place in range(min(counts), max(counts) + 1)}


def _bar(y: int, name: str, count: int, width: float, share: float) -> str:
    cut = name if len(name) <= NAME else f"{name[: NAME - 1]}…"
    return (
        f'<text x="{LEFT - 8}" y="{y}" text-anchor="end">{escape(cut)}</text>'
        f'<rect x="{LEFT}" y="{y - 13}" width="{width:.1f}" height="16"/>'
        f'<text x="{LEFT + width + 6:.1f}" y="{y}">{count:,} ({share:.1%})</text>'
    )
