import pytest
import torch

from labkit.classroom import check
from labkit.classroom.exercises import HINTS

CHECKS = sorted(HINTS)
RIGHT = {
    "examples_seen": 480,
    "triage_prompt": "Finding: A clouding of the lens of the eye.\nDepartment:",
    "completion_targets": lambda prompt, completion: [-100] * len(prompt) + completion,
    "adamw_bytes": lambda parameters: 16 * parameters,
    "lora_parameters": lambda inputs, outputs, rank: rank * (inputs + outputs),
    "merged_weight": lambda W, A, B, alpha: W + alpha / len(A) * B @ A,
    "absmax_int8": lambda x: (torch.round(127 * x / x.abs().max()), x.abs().max() / 127),
    "bits_per_parameter": lambda block_size: 4 + 32 / block_size,
    "relative_difference": lambda a, b: (a - b).norm() / b.norm(),
    "qlora_bytes": lambda frozen, adapter: 4.127 / 8 * frozen + 16 * adapter,
    "peak_of": lambda start, changes: max(start + sum(changes[:n]) for n in range(len(changes) + 1)),
    "extrapolate": lambda two, three, blocks: two + (blocks - 2) * (three - two),
}


def said(capsys, name, answer):
    assert getattr(check, name)(answer) is None
    return capsys.readouterr().out


def test_every_exercise_has_a_solution_here():
    assert set(RIGHT) == set(CHECKS)


@pytest.mark.parametrize("name", CHECKS)
def test_a_right_answer_is_praised(capsys, name):
    assert said(capsys, name, RIGHT[name]).startswith("✓")


@pytest.mark.parametrize("name", CHECKS)
@pytest.mark.parametrize("stub", [None, ...])
def test_a_stub_is_not_attempted_yet(capsys, name, stub):
    assert "not attempted yet" in said(capsys, name, stub)


@pytest.mark.parametrize("name", [name for name in CHECKS if callable(RIGHT[name])])
def test_an_untouched_function_is_not_attempted_yet(capsys, name):
    assert "not attempted yet" in said(capsys, name, lambda *args: ...)


@pytest.mark.parametrize("name", CHECKS)
@pytest.mark.parametrize("nonsense", [object(), "x", -1, 2.5, [], {}, len, lambda: 1 / 0, lambda *a: 1 / 0])
def test_nonsense_never_raises_and_is_never_right(capsys, name, nonsense):
    assert said(capsys, name, nonsense).startswith("✗")


@pytest.mark.parametrize(
    ("name", "answer", "word"),
    [
        ("examples_seen", 30, "number of steps"),
        ("examples_seen", 16, "one batch"),
        ("examples_seen", 1000, "training set"),
        ("triage_prompt", "Finding: A clouding of the lens.\nDepartment: ", "white space"),
        ("triage_prompt", "A clouding of the lens.\nDepartment:", "'Finding: '"),
        ("triage_prompt", "Finding: A clouding of the lens.\ndepartment:", "capital D"),
        ("completion_targets", lambda p, c: p + c, "write the prompts"),
        ("completion_targets", lambda p, c: [-100] * (len(p) - 1) + c + [-100], "No shift"),
        ("completion_targets", lambda p, c: [-100] * 3 + c, "lengths"),
        ("completion_targets", lambda p, c: c, "5 targets"),
        ("adamw_bytes", lambda n: 4 * n, "weights alone"),
        ("adamw_bytes", lambda n: 12 * n, "two numbers"),
        ("lora_parameters", lambda i, o, r: r * i * o, "full size"),
        ("lora_parameters", lambda i, o, r: r * i, "A alone"),
        ("lora_parameters", lambda i, o, r: r * o, "B alone"),
        ("lora_parameters", lambda i, o, r: i + o, "grow with the rank"),
        ("merged_weight", lambda W, A, B, alpha: W + B @ A, "scale is missing"),
        ("merged_weight", lambda W, A, B, alpha: W + alpha * B @ A, "not alpha alone"),
        ("merged_weight", lambda W, A, B, alpha: alpha / 2 * B @ A, "Add it to W"),
        ("merged_weight", lambda W, A, B, alpha: W.add_(alpha / 2 * B @ A), "in place"),
        ("merged_weight", lambda W, A, B, alpha: A @ A.T, "order of B and A"),
        ("absmax_int8", lambda x: (torch.round(128 * x / x.abs().max()), x.abs().max() / 128), "127"),
        ("absmax_int8", lambda x: (127 * x / x.abs().max(), x.abs().max() / 127), "round"),
        ("absmax_int8", lambda x: x, "two things"),
        ("absmax_int8", lambda x: (torch.round(x / 0.5), 0.5), "largest number"),
        ("bits_per_parameter", lambda size: 4, "code alone"),
        ("bits_per_parameter", lambda size: 36, "whole block"),
        ("bits_per_parameter", lambda size: 32 / size, "on top"),
        ("relative_difference", lambda a, b: (a - b).norm(), "Compare it"),
        ("relative_difference", lambda a, b: (a - b).norm() / a.norm(), "reference is b"),
        ("relative_difference", lambda a, b: a.norm() / b.norm(), "different direction"),
        ("relative_difference", lambda a, b: a.norm() / b.norm() - 1, "point elsewhere"),
        ("qlora_bytes", lambda n, m: 4.127 * n + 16 * m, "bits where bytes"),
        ("qlora_bytes", lambda n, m: 4.127 / 8 * n, "adapter is trained"),
        ("qlora_bytes", lambda n, m: 4.127 / 8 * n + 4 * m, "Its gradients"),
        ("qlora_bytes", lambda n, m: 16 * (n + m), "full fine-tuning"),
        ("adamw_bytes", lambda n: 16, "Multiply"),
    ],
)
def test_typical_mistakes_are_explained(capsys, name, answer, word):
    text = said(capsys, name, answer)
    assert text.startswith("✗")
    assert word in text


def test_hints_go_further_each_time_and_then_stay(capsys):
    for expected in [*HINTS["adamw_bytes"], HINTS["adamw_bytes"][-1]]:
        check.hint("adamw_bytes")
        assert expected in capsys.readouterr().out


def test_an_unknown_hint_lists_the_exercises(capsys):
    check.hint("nosuch")
    text = capsys.readouterr().out
    assert all(name in text for name in CHECKS)
