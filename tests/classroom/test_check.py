import json
import re
from pathlib import Path

from labkit.classroom import check
from labkit.classroom.exercises import HINTS

LESSONS = sorted((Path(__file__).resolve().parents[2] / "notebooks").glob("*.ipynb"))


def test_each_notebook_finds_its_exercises_in_the_file_named_after_it():
    used = {}
    for path in LESSONS:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
        assert Path(__file__).with_name(f"test_notebook_{path.name[:2]}.py").exists()
        module = f"labkit.classroom.notebook_{path.name[:2]}"
        used |= {name: module for name in re.findall(r"check\.(\w+)\(", code) if name != "hint"}
    assert {name: getattr(check, name).__module__ for name in HINTS} == used
    assert set(check.__all__) == {*used, "hint"}


def test_hints_go_further_each_time_and_then_stay(capsys):
    for expected in [*HINTS["adamw_bytes"], HINTS["adamw_bytes"][-1]]:
        check.hint("adamw_bytes")
        assert expected in capsys.readouterr().out


def test_an_unknown_hint_lists_the_exercises(capsys):
    check.hint("nosuch")
    text = capsys.readouterr().out
    assert all(name in text for name in HINTS)
