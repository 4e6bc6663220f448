"""Stored results of comparisons: read as a table, made again row by row, and extended by new rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd

from labkit.comparisons.point import Point, all_settings
from labkit.comparisons.showdown import SHOWDOWN
from labkit.errors import LabkitError, unknown
from labkit.storage import cache, records
from labkit.storage.files import write_text


def results(name: str) -> pd.DataFrame:
    """Return the stored rows of a sweep, with accuracy, the method's settings and changes of the data as columns.

    The column ``label`` has the name of a method with its settings, such as "LoRA r=4", where the sweep ``methods``
    has one for it.

    Raises:
        LabkitError: no results of that name are stored.
    """
    path = results_file(name)
    if path not in (stored := list(results_file("any").parent.glob("*.json"))):
        raise unknown("result", name, [p.stem for p in stored], f" If it is a sweep, `labkit bench {name}` makes it.")
    labels = {json.dumps(all_settings(method)): label for label, method in SHOWDOWN.items()}
    rows = []
    for row in _read(path):
        settings = {f"method.{key}": value for key, value in row["method"].items()}
        label = labels.get(json.dumps(row["method"]), row["method"]["name"])
        settings |= {f"data.{key}": value for key, value in row.get("data", {}).items()}
        rows.append({**row, **settings, "label": label, "accuracy": row["correct"] / row["total"]})
    return pd.DataFrame(rows).rename(columns={"method.name": "name"})


def repeat(row: pd.Series | dict[str, Any]) -> dict[str, Any]:
    """Run one stored row again, here and now, and return what was measured.

    Raises:
        LabkitError: the row lacks a setting that a run needs.
    """
    point = Point.of_row(dict(row))
    if point is None:
        raise LabkitError("This row lacks settings that a run needs.", "Pass a whole row of lk.results(…).")
    return point.run()


def results_file(name: str, folder: Path | None = None) -> Path:
    """Return the file of a sweep's results, in the course's folder of results unless another is given."""
    return (folder or cache.course_data() / "results") / f"{name}.json"


def store(path: Path, name: str, todo: list[Point], *new: dict[str, Any]) -> list[dict[str, Any]]:
    """Add new rows to a sweep's file, drop rows that the sweep no longer has, and return all in the sweep's order."""
    with cache.locked(f"results-{name}"):  # another process may have added a row since
        stored = _read(path)
        known = [(point, row) for row in [*stored, *new] if (point := Point.of_row(row)) and point in todo]
        rows = [row for _, row in sorted(known, key=lambda pair: todo.index(pair[0]))]
        if rows != stored:
            content = records.stamped("results", {"command": f"labkit bench {name}", "rows": rows})
            write_text(path, json.dumps(content, indent=1) + "\n")
    return rows


def _read(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    try:
        record = records.read_json(path, "results", ["command", "rows"])
        if record["command"].startswith("labkit bench ") and all(row["model"] for row in record["rows"]):
            return record["rows"]
    except (records.DamagedError, KeyError, TypeError, AttributeError):
        pass
    raise LabkitError(f"{path} holds no results of `labkit bench`.", "Restore it, or remove it and run again.")
