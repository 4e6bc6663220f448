import itertools
from functools import partial

import numpy as np
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
    "adapter_parameters": lambda width, size, blocks: blocks * 2 * (width * size + size + size * width + width),
    "merged_ia3": lambda W, b, f: (torch.diag(f) @ W, f * b),
    "pareto_front": lambda costs, gains: [
        not any((c <= cost and g > gain) or (c < cost and g >= gain) for c, g in zip(costs, gains, strict=True))
        for cost, gain in zip(costs, gains, strict=True)
    ],
    "is_bootstrap_tie": lambda differences: bool(
        np.quantile(differences, 0.025) <= 0 <= np.quantile(differences, 0.975)
    ),
}


def beaten(costs, gains, rule):
    """A front by a rule for when one (c, g) beats another (cost, gain)."""
    points = list(zip(costs, gains, strict=True))
    return [not any(rule(*two, *one) for n, two in enumerate(points) if n != m) for m, one in enumerate(points)]


def by_sorting(costs, gains):
    """A front by going from cheap to dear and keeping what gains more than all before: one of equals only."""
    order = sorted(range(len(costs)), key=lambda i: (costs[i], -gains[i]))
    result, best = [False] * len(costs), -1
    for i in order:
        result[i], best = gains[i] > best, max(best, gains[i])
    return result


def middle(share):
    """A check for a tie by the middle ``share`` of the differences."""
    low = (1 - share) / 2
    return lambda differences: np.quantile(differences, low) <= 0 <= np.quantile(differences, 1 - low)


def said(capsys, name, answer):
    assert getattr(check, name)(answer) is None
    return capsys.readouterr().out


def test_every_exercise_has_a_solution_here():
    assert set(RIGHT) == set(CHECKS)


def test_a_right_answer_is_praised(capsys):
    for name in CHECKS:
        assert said(capsys, name, RIGHT[name]).startswith("✓")


def test_a_stub_is_not_attempted_yet(capsys):
    for name, stub in itertools.product(CHECKS, [None, ...]):
        assert "not attempted yet" in said(capsys, name, stub)


def test_an_untouched_function_is_not_attempted_yet(capsys):
    for name in [name for name in CHECKS if callable(RIGHT[name])]:
        assert "not attempted yet" in said(capsys, name, lambda *args: ...)


def test_nonsense_never_raises_and_is_never_right(capsys):
    for name, nonsense in itertools.product(
        CHECKS, [object(), "x", -1, 2.5, [], {}, len, lambda: 1 / 0, lambda *a: 1 / 0]
    ):
        assert said(capsys, name, nonsense).startswith("✗")


def test_typical_mistakes_are_explained(capsys):
    for name, answer, word in [
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
        ("adapter_parameters", lambda d, m, n: n * (2 * d * m + d + m), "second one behind the attention"),
        ("adapter_parameters", lambda d, m, n: 2 * (2 * d * m + d + m), "one block"),
        ("adapter_parameters", lambda d, m, n: 2 * d * m + d + m, "single adapter"),
        ("adapter_parameters", lambda d, m, n: n * 2 * 2 * d * m, "biases are missing"),
        ("adapter_parameters", lambda d, m, n: n * 2 * (d * m + d + m), "One of the two matrices"),
        ("adapter_parameters", lambda d, m, n: n * 2 * d * m, "one matrix"),
        ("adapter_parameters", lambda d, m, n: 10248, "not for others"),
        ("adapter_parameters", lambda d, m, n: d + m + n, "you got 111"),
        ("merged_ia3", lambda W, b, f: (f * W, f * b), "scales the columns"),
        ("merged_ia3", lambda W, b, f: (f[:, None] * W, b), "so the bias as well"),
        ("merged_ia3", lambda W, b, f: (f[:, None] * W, f + b), "the bias is not"),
        ("merged_ia3", lambda W, b, f: (W, f * b), "which part of W"),
        ("merged_ia3", lambda W, b, f: f[:, None] * W, "two tensors"),
        ("merged_ia3", lambda W, b, f: (f[:, None] * W, f * b, f), "two tensors"),
        ("merged_ia3", lambda W, b, f: (W @ f, f * b), "you returned (4,) and (4,)"),
        ("pareto_front", lambda c, g: [not x for x in RIGHT["pareto_front"](c, g)], "other way round"),
        ("pareto_front", lambda c, g: [0, 1, 3], "five values"),
        ("pareto_front", lambda c, g: beaten(c, g, lambda a, b, x, y: a <= x and b >= y), "do not beat each other"),
        ("pareto_front", lambda c, g: beaten(c, g, lambda a, b, x, y: a < x and b > y), "gains the same as another"),
        ("pareto_front", lambda c, g: beaten(c, g, lambda a, b, x, y: a <= x and b > y), "gains the same as another"),
        ("pareto_front", lambda c, g: [gain == max(g) for gain in g], "does another one beat it"),
        ("pareto_front", lambda c, g: [True] * len(c), "does another one beat it"),
        ("is_bootstrap_tie", lambda x: min(x) <= 0 <= max(x), "2 of 100 are below 0, it is no tie"),
        ("is_bootstrap_tie", middle(0.9), "3 of 100 are below 0, it is a tie"),
        ("is_bootstrap_tie", middle(0.99), "2 of 100 are below 0, it is no tie"),
        ("is_bootstrap_tie", lambda x: np.quantile(x, 0.025) <= 0, "all are below 0, it is no tie"),
        ("is_bootstrap_tie", lambda x: abs(np.mean(x)) < 1.96 * np.std(x), "3 of 100 are below 0, it is a tie"),
        ("is_bootstrap_tie", lambda x: not middle(0.95)(x), "all differences are above 0, it is no tie"),
        ("is_bootstrap_tie", lambda x: (np.quantile(x, 0.025), np.quantile(x, 0.975)), "above 0, it is no tie"),
    ]:
        text = said(capsys, name, answer)
        assert text.startswith("✗")
        assert word in text


def test_a_front_with_one_of_two_equals_is_told_so(capsys):
    text = said(capsys, "pareto_front", by_sorting)
    assert text.startswith("✗ Almost")
    assert "do not beat each other" in text


def test_an_answer_may_be_right_in_another_way(capsys):
    for name, answer in [
        ("adapter_parameters", lambda width, size, blocks: float(RIGHT["adapter_parameters"](width, size, blocks))),
        ("adapter_parameters", lambda *sizes: torch.tensor(RIGHT["adapter_parameters"](*sizes))),
        ("merged_ia3", lambda W, b, f: ((W.T * f).T, b * f)),
        ("merged_ia3", lambda W, b, f: (W.mul_(f.view(-1, 1)), b.mul_(f))),
        ("pareto_front", lambda costs, gains: np.array(RIGHT["pareto_front"](costs, gains))),
        ("pareto_front", lambda costs, gains: (int(on) for on in RIGHT["pareto_front"](costs, gains))),
        ("is_bootstrap_tie", lambda differences: middle(0.95)(np.array(differences))),
        ("is_bootstrap_tie", lambda differences: 25 < sum(x <= 0 for x in differences) < 975),
    ]:
        assert said(capsys, name, answer).startswith("✓")


def test_a_pair_with_a_stub_in_it_is_not_attempted_yet(capsys):
    for stub, answer in itertools.product(
        [None, ...], [lambda W, b, f, stub: (stub, stub), lambda W, b, f, stub: (f[:, None] * W, stub)]
    ):
        assert "not attempted yet" in said(capsys, "merged_ia3", partial(answer, stub=stub))


def test_a_result_of_another_type_never_raises_and_is_never_right(capsys):
    for name, result in itertools.product(
        ["adapter_parameters", "merged_ia3", "pareto_front", "is_bootstrap_tie"],
        ["x", {}, [], [[1, 2]], (1, 2), ("a", "b"), 1j, float("nan"), object(), torch.ones(3)],
    ):
        assert said(capsys, name, lambda *args, result=result: result).startswith("✗")


def test_hints_go_further_each_time_and_then_stay(capsys):
    for expected in [*HINTS["adamw_bytes"], HINTS["adamw_bytes"][-1]]:
        check.hint("adamw_bytes")
        assert expected in capsys.readouterr().out


def test_an_unknown_hint_lists_the_exercises(capsys):
    check.hint("nosuch")
    text = capsys.readouterr().out
    assert all(name in text for name in CHECKS)
