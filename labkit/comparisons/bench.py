"""Run a comparison that takes longer than a lesson, row by row, as ``labkit bench`` does."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from labkit.comparisons.point import Point
from labkit.comparisons.results import results_file, store
from labkit.comparisons.sweeps import points
from labkit.errors import LabkitError, require_count, shown


def bench(
    name: str, folder: Path | None = None, part: tuple[int, int] = (1, 1)
) -> Iterator[tuple[int, int, dict[str, Any]]]:
    """Run the points of a sweep that aren't stored yet, store each at once, and yield (number, total, row).

    Args:
        name: of the sweep.
        folder: of the results; the course's own by default.
        part: ``(2, 3)`` runs the second of three shares, so that three processes can work side by side. Runs that
            share their training stay together.

    Raises:
        LabkitError: there is no sweep of that name, or no such part.
    """
    return _bench(name, folder, require_part(part))


def require_part(part: tuple[int, ...]) -> tuple[int, int]:
    """Return a share such as (2, 3) as two Python ints.

    Raises:
        LabkitError: it isn't two whole numbers, the first from 1 to the second.
    """
    try:
        number, count = part
        count = require_count("the number of parts", count)
        return require_count("part", number, high=count), count
    except (TypeError, ValueError, LabkitError) as problem:
        remedy = "Pass (1, 2) and (2, 2) for two processes."
        raise LabkitError(f"{shown(part)} is not a share of the work.", remedy) from problem


def _bench(name: str, folder: Path | None, part: tuple[int, int]) -> Iterator[tuple[int, int, dict[str, Any]]]:
    path, todo = results_file(name, folder), points(name)
    done = [Point.of_row(row) for row in store(path, name, todo)]
    together = [list(group) for _, group in itertools.groupby(todo, Point.training)]
    mine = itertools.chain.from_iterable(together[part[0] - 1 :: part[1]])
    for point in [point for point in mine if point not in done]:
        found = point.run()
        # A measure named like a setting would take its place, and the row would count as no point of the sweep.
        assert not found.keys() & asdict(point).keys(), found.keys() & asdict(point).keys()
        row = asdict(point) | found
        yield len(store(path, name, todo, row)), len(todo), row
