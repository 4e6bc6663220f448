import ast
import re

import pytest
from handed_in import ROOT, called, cells, solution_cells

from labkit.classroom import check
from labkit.classroom.exercises import EXERCISES, KINDS, Exercise
from labkit.errors import LabkitError

LESSONS = sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb"))


def test_each_notebook_finds_its_exercises_in_the_file_named_after_it():
    used = {}
    for lesson in LESSONS:
        assert (ROOT / "tests" / "classroom" / f"test_notebook_{lesson[:2]}.py").exists()
        used |= {name: lesson[:2] for cell in cells(lesson) for name in called(cell["source"])}
    assert {name: exercise.notebook for name, exercise in EXERCISES.items()} == used
    assert all(getattr(check, name).__module__ == f"labkit.classroom.notebook_{nn}" for name, nn in used.items())
    assert list(EXERCISES) == list(used)  # in the same order
    assert set(check.__all__) == {*used, "hint"}


def test_each_notebook_has_two_exercises_and_an_experiment_and_the_course_all_kinds():
    for lesson in LESSONS:
        kinds = [exercise.kind for exercise in EXERCISES.values() if exercise.notebook == lesson[:2]]
        assert len(kinds) >= 2
        assert "experiment" in kinds
    assert {exercise.kind for exercise in EXERCISES.values()} == set(KINDS)


def test_hints_go_further_each_time_and_then_stay(capsys):
    hints = EXERCISES["adamw_bytes"].hints
    for expected in [*hints, hints[-1]]:
        check.hint("adamw_bytes")
        assert expected in capsys.readouterr().out


def test_an_unknown_hint_lists_the_exercises(capsys):
    check.hint("nosuch")
    text = capsys.readouterr().out
    assert all(name in text for name in EXERCISES)


def plain(text):
    """A text without what may differ between code and prose that say the same."""
    return re.sub(r"[\s`]", "", text.translate(str.maketrans("·×−", "**-"))).lower()


def answers(source):
    """The expressions that make up a solution: what is returned, kept in a variable, or handed to the check."""
    for node in ast.walk(ast.parse(source)):
        given = [node.value] if isinstance(node, ast.Return | ast.Assign | ast.AugAssign) else []
        if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("check."):
            given = node.args
        given = [part for value in given for part in (value.elts if isinstance(value, ast.Tuple) else [value])]
        for each in given + [node] * isinstance(node, ast.BoolOp):
            if isinstance(each, ast.BinOp) and not any(isinstance(part, ast.Name) for part in ast.walk(each)):
                yield str(eval(ast.unparse(each)))  # 30 * 16 is 480 as well
            if isinstance(each, ast.Constant) and isinstance(each.value, str):
                yield each.value
            elif not isinstance(each, ast.Name | ast.Constant):
                yield ast.unparse(each)


def test_what_a_solution_is_made_of_is_found():
    assert "rank * (inputs + outputs)" in set(answers(solution_cells()["lora_parameters"]["source"]))
    assert "factors[:, None] * W" in set(answers(solution_cells()["merged_ia3"]["source"]))
    assert "480" in set(answers(solution_cells()["examples_seen"]["source"]))
    assert plain("`rank` · (inputs + outputs)") == "rank*(inputs+outputs)"


def test_no_hint_holds_the_solution():
    solutions = solution_cells()
    assert set(solutions) == set(EXERCISES)
    for name, exercise in EXERCISES.items():
        parts = [plain(part) for part in answers(solutions[name]["source"])]
        assert parts
        for hint in exercise.hints:
            assert not [part for part in parts if part in plain(hint)], name


def test_each_stored_solution_is_right():
    for cell in solution_cells().values():
        (output,) = cell["outputs"]
        assert "".join(output["text"]).startswith("✓")


def test_what_an_exercise_asks_for_is_checked():
    right = {"id": "x", "notebook": "00", "minutes": 5, "difficulty": 1, "points": 1, "kind": "compute"}
    hints = ("Look.", "Look again.")
    assert Exercise(**right, hints=hints).headline() == "5 minutes · 1 point · difficulty 1 of 3 · compute"
    assert Exercise(**right, hints=hints).metadata() == {key: right[key] for key in right if key != "notebook"}
    for wrong in ({"minutes": 0}, {"minutes": 90}, {"difficulty": 4}, {"points": 1.5}, {"kind": "essay"}):
        with pytest.raises(LabkitError):
            Exercise(**right | wrong, hints=hints)
    for few in ((), ("Look.",), ("Look.", "Look."), "Look."):
        with pytest.raises(LabkitError):
            Exercise(**right, hints=few)
