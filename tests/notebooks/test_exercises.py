"""What the checks say of each exercise stands in the notebooks and the instructor's guide as well."""

import importlib.util
import json
import re
from itertools import pairwise
from pathlib import Path

import pytest

from labkit.classroom import check  # noqa: F401  its imports fill EXERCISES
from labkit.classroom.exercises import EXERCISES

ROOT = Path(__file__).resolve().parents[2]
LESSONS = sorted((ROOT / "notebooks").glob("*.ipynb"))
GUIDE = (ROOT / "notebooks" / "instructor" / "guide.md").read_text(encoding="utf-8")
spec = importlib.util.spec_from_file_location("exercises_tool", ROOT / "tools" / "exercises.py")
tool = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tool)


def test_each_stub_has_the_exercise_in_its_metadata_and_a_line_for_the_learner_above_it():
    found = []
    for path in LESSONS:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        for text, stub in pairwise(cells):
            if "labkit" in stub["metadata"]:
                metadata = stub["metadata"]["labkit"]["exercise"]
                exercise = EXERCISES[metadata["id"]]
                assert metadata == {key: getattr(exercise, key) for key in metadata}
                assert set(metadata) == {"id", "minutes", "difficulty", "points", "kind"}
                assert f"\ncheck.{exercise.id}(" in "".join(stub["source"])
                points = f"{exercise.points} point{'s' if exercise.points > 1 else ''}"
                line = (
                    f"*{exercise.minutes} minutes · {points} · difficulty {exercise.difficulty} of 3 · {exercise.kind}*"
                )
                assert re.search(rf"## Exercise \d · .+\n\n{re.escape(line)}\n\n", "".join(text["source"]))
                found.append((path.name[:2], exercise.id))
    assert found == [(exercise.notebook, exercise.id) for exercise in EXERCISES.values()]


def test_the_guide_lists_each_exercise_and_the_sums_of_each_notebook():
    rows = [
        [cell.strip(" *`") for cell in line.strip("|").split("|")] for line in GUIDE.splitlines() if line[:1] == "|"
    ]
    single, sums, (everything,) = (
        [row for row in rows if row[1] in EXERCISES],
        [row for row in rows if row[0] and row[2] == ""],
        [row for row in rows if row[1] == "The course"],
    )
    facts = ("notebook", "id", "kind", "difficulty", "minutes", "points")
    assert single == [[str(getattr(exercise, fact)) for fact in facts] for exercise in EXERCISES.values()]
    assert [row[0] for row in sums] == [path.name[:2] for path in LESSONS]
    for row in sums:
        own = [exercise for exercise in EXERCISES.values() if exercise.notebook == row[0]]
        assert row[4:] == [str(sum(e.minutes for e in own)), str(sum(e.points for e in own))]
    for column in (4, 5):
        assert int(everything[column]) == sum(int(row[column]) for row in sums)


def test_the_tool_would_change_nothing():
    assert tool.with_table(GUIDE) == GUIDE
    for path in LESSONS:
        notebook = json.loads(path.read_text(encoding="utf-8"))
        assert tool.mirrored(notebook) == notebook


def test_the_tool_writes_what_is_missing_and_keeps_the_rest():
    line = EXERCISES["peak_of"].headline()
    for old in ("", "*99 minutes · 9 points · difficulty 9 of 3 · essay*\n\n"):
        text = {"cell_type": "markdown", "metadata": {}, "source": f"Text.\n\n## Exercise 1 · Peak\n\n{old}Do it."}
        stub = {"cell_type": "code", "metadata": {"tags": ["x"]}, "source": ["f = 1\n", "check.peak_of(f)"]}
        first, second = tool.mirrored({"cells": [text, stub]})["cells"]
        assert first["source"] == f"Text.\n\n## Exercise 1 · Peak\n\n*{line}*\n\nDo it."
        assert second["metadata"] == {"tags": ["x"], "labkit": {"exercise": EXERCISES["peak_of"].metadata()}}
        assert second["source"] == stub["source"]
    with pytest.raises(SystemExit, match="peak_of"):
        tool.mirrored({"cells": [{**text, "source": "No heading."}, stub]})
