"""Repeat in the notebooks and the instructor's guide what the checks say of each exercise: minutes, points and kind.

The source is the decorator of each check in labkit/classroom. Run this after a change there:
`.venv/bin/python tools/exercises.py`.
"""

from __future__ import annotations

import json
import re
from itertools import groupby, pairwise
from pathlib import Path

from labkit.classroom import check  # noqa: F401  its imports fill EXERCISES
from labkit.classroom.exercises import EXERCISES, Exercise
from labkit.storage.files import write_text

ROOT = Path(__file__).resolve().parents[1]
HEADING = re.compile(r"(## Exercise [^\n]*\n\n)(?:\*\d+ minutes[^\n]*\*\n\n)?")
TABLE = re.compile(r"(<!-- exercises: tools/exercises.py -->\n).*?(<!-- end of exercises -->)", re.S)


def exercise_of(cell: dict) -> Exercise | None:
    """Return the exercise whose stub a cell holds."""
    source = "".join(cell["source"])
    called = re.findall(r"^check\.(\w+)\(", source, re.M) if cell["cell_type"] == "code" else []
    return next((EXERCISES[name] for name in called if name in EXERCISES), None)


def mirrored(notebook: dict) -> dict:
    """Return a notebook whose exercises have their metadata and, under their heading, their line for the learner."""
    cells = [{**cell, "metadata": {**cell["metadata"]}} for cell in notebook["cells"]]
    for text, stub in pairwise(cells):
        exercise = exercise_of(stub)
        if exercise is None:
            continue
        own = dict(sorted(exercise.metadata().items()))  # in the order in which nbformat writes it
        stub["metadata"]["labkit"] = stub["metadata"].get("labkit", {}) | {"exercise": own}
        source = "".join(text["source"])
        if len(HEADING.findall(source)) != 1:
            raise SystemExit(
                f"The cell before the stub of {exercise.id} has no heading such as '## Exercise 1 · Name'."
            )
        source = HEADING.sub(rf"\1*{exercise.headline()}*\n\n", source)
        text["source"] = source if isinstance(text["source"], str) else source.splitlines(keepends=True)
    return {**notebook, "cells": cells}


def table(titles: dict[str, str]) -> str:
    """Return the guide's table of all exercises, with a line of sums for each notebook; ``titles`` are by notebook."""
    lines = ["| Notebook | Exercise | Kind | Difficulty | Minutes | Points |", "|---|---|---|---|---|---|"]
    for notebook, group in groupby(EXERCISES.values(), key=lambda exercise: exercise.notebook):
        exercises = list(group)
        for each in exercises:
            lines.append(
                f"| {notebook} | `{each.id}` | {each.kind} | {each.difficulty} | {each.minutes} | {each.points} |"
            )
        minutes, points = (sum(getattr(each, name) for each in exercises) for name in ("minutes", "points"))
        lines.append(f"| **{notebook}** | **{titles[notebook]}** | | | **{minutes}** | **{points}** |")
    minutes, points = (sum(getattr(each, name) for each in EXERCISES.values()) for name in ("minutes", "points"))
    lines.append(f"| | **The course** | | | **{minutes}** | **{points}** |")
    return "\n".join(lines) + "\n"


def titles(guide: str) -> dict[str, str]:
    """Return the guide's heading of each notebook, without its minutes."""
    return dict(re.findall(r"^## (\d\d) · (.*?)(?: \(\d+ minutes\))?$", guide, re.M))


def with_table(guide: str) -> str:
    """Return the guide with its table renewed."""
    return TABLE.sub(lambda found: found[1] + table(titles(guide)) + found[2], guide)


def main() -> None:
    """Rewrite the notebooks and the guide where they differ."""
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        old = path.read_text(encoding="utf-8")
        new = json.dumps(mirrored(json.loads(old)), indent=1, ensure_ascii=False) + "\n"
        if new != old:
            write_text(path, new)
            print(path.relative_to(ROOT))
    guide = ROOT / "notebooks" / "instructor" / "guide.md"
    if (new := with_table(old := guide.read_text(encoding="utf-8"))) != old:
        write_text(guide, new)
        print(guide.relative_to(ROOT))


if __name__ == "__main__":
    main()
