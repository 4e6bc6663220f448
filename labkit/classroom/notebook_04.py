"""Checks of the exercises in notebook 04."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from labkit.classroom.exercises import MistakeError, exercise, not_attempted, untouched
from labkit.classroom.experiments import judged, outcome, parts, require_same, require_seeds, trials
from labkit.methods import LoRA


@exercise(
    minutes=5,
    difficulty=1,
    points=1,
    kind="write code",
    hints=(
        "How long is the difference, compared with the reference?",
        "Both are vectors: subtract, and take Euclidean norms with .norm().",
        "What should come out if a is twice b? Try your function on that, and on a = b.",
    ),
)
def relative_difference(answer: Callable[[torch.Tensor, torch.Tensor], float]) -> str:
    """Check the number that reveals a lost gradient."""
    a, b = torch.tensor([3.0, 4.0, 0.0]), torch.tensor([0.0, 4.0, 0.0])
    result = answer(a.clone(), b.clone())
    if untouched(result):
        return not_attempted("relative_difference")
    result = float(result)
    mistakes = {
        3.0: "That is the length of the difference. Is 3 a lot? Compare it with the reference b.",
        0.6: "You divided by the norm of a. The reference is b.",
        1.25: "That is the ratio of the two lengths. It can be 1 for two vectors of different direction as well.",
        0.25: "The norms differ by that much, but vectors of equal length can point in different directions.",
    }
    if math.isclose(result, 0.75, rel_tol=1e-5) and math.isclose(float(answer(b, b)), 0, abs_tol=1e-9):
        return "✓ Right: 0 for equal vectors, and 1 if `a` were all zeros."
    wrong = next((text for value, text in mistakes.items() if math.isclose(result, value, rel_tol=1e-4)), "")
    return f"✗ {wrong or f'For [3, 4, 0] against [0, 4, 0] you got {result:.3f}.'}"


@exercise(
    minutes=10,
    difficulty=2,
    points=2,
    kind="compute",
    hints=(
        "Two kinds of parameters: the frozen ones in 4 bits, and the adapter, which is trained.",
        "A frozen parameter takes 4.127 bits: notebook 03, section 4. A byte has 8 bits.",
        "A trained parameter takes what each took in notebook 01. Which four numbers were these?",
    ),
)
def qlora_bytes(answer: Callable[[float, float], float]) -> str:
    """Check the bytes that QLoRA needs besides the activations."""
    result = answer(8e9, 1e8)
    if untouched(result):
        return not_attempted("qlora_bytes")
    right = 8e9 * 4.127 / 8 + 16e8
    mistakes = {
        8e9 * 4.127 + 16e8: "You counted bits. The answer should be in bytes.",
        8e9 * 4.127 / 8: "The adapter is trained: it needs weights, gradients and AdamW's two means.",
        8e9 * 4.127 / 8 + 4e8: "The adapter's weights are in. Its gradients and AdamW's two means are not.",
        (8e9 + 1e8) * 16: "That is full fine-tuning. Here the 8 billion are frozen and stored in 4 bits.",
    }
    if math.isclose(result, right, rel_tol=1e-3) and math.isclose(answer(0, 1), 16, rel_tol=1e-3):
        return "✓ Right: a model of 8 billion takes 4.1 GB, and a large adapter of 100 million 1.6 GB more."
    wrong = next((text for value, text in mistakes.items() if math.isclose(result, value, rel_tol=1e-3)), "")
    return f"✗ {wrong or f'For 8 billion frozen and 100 million trained parameters you got {result / 1e9:.2f} GB.'}"


@exercise(
    minutes=15,
    difficulty=2,
    points=3,
    kind="experiment",
    hints=(
        "Write a function of method and seed that trains and returns (run, lk.evaluate(…)). Nothing else may differ.",
        "lk.LoRA(rank=8) and lk.QLoRA(rank=8) differ in how the frozen weights are stored, and in nothing else.",
        "lk.compare wants two lists of evaluations, QLoRA's first. Its interval says how large a price may still be.",
    ),
)
def price_of_4_bits(answer: dict[str, Any]) -> str:
    """Check an experiment: does it cost accuracy to store the frozen weights in 4 bits?"""
    qlora, lora, verdict = parts(answer, "qlora", "lora", "verdict")
    groups = {"qlora": trials("qlora", qlora), "lora": trials("lora", lora)}
    for name, group in groups.items():
        found = sorted({getattr(trial.method, "name", "no run") for trial in group})
        if found != [name]:
            raise MistakeError(f"{name}: the runs' methods are {', '.join(found)}. Hand in runs made with {name} here.")
    methods = [trial.method for group in groups.values() for trial in group]
    if len({(method.rank, method.alpha) for method in methods if isinstance(method, LoRA)}) > 1:
        raise MistakeError("The runs differ in rank or alpha. Then a difference may be due to them, not to the 4 bits.")
    require_seeds(groups)
    require_same(groups, "steps", "batch_size", "accumulation", "learning_rate")
    compared = judged({name: [trial.evaluation for trial in group] for name, group in groups.items()}, verdict)
    return f"✓ Well measured. {outcome(compared)} Is the memory that QLoRA saves worth what may be lost?"


@exercise(
    minutes=15,
    difficulty=2,
    points=3,
    kind="find the bug",
    hints=(
        "There are three bugs. Before any training, what should an adapter add to the output? Print what it adds.",
        "Which parameters does the optimizer get? Look at requires_grad of each. Both matrices are to be trained.",
        "Count how often x meets the scale on its way through forward. Notebook 02 has the equation.",
    ),
)
def fixed_adapter(answer: Callable[..., Any]) -> str:
    """Check a LoRA layer that was fixed: its B started at random, its A was frozen, and the scale was applied twice."""
    torch.manual_seed(0)
    base = nn.Linear(6, 5).requires_grad_(False)
    layer = answer(base, 6, 5, 2, 8.0)
    if untouched(layer):
        return not_attempted("fixed_adapter")
    x, (A, B) = torch.randn(3, 6), (layer.A, layer.B)
    starts, empty = torch.allclose(layer(x), base(x), atol=1e-6), not A.any() and not B.any()
    with torch.no_grad():
        A.normal_()
        B.normal_()
        added = layer(x) - base(x)
        once = x @ A.T @ B.T
    if not starts and not A.requires_grad and torch.allclose(added, 16 * once, atol=1e-4):
        return not_attempted("fixed_adapter")
    if any(parameter.requires_grad for parameter in base.parameters()):
        raise MistakeError("Now the base is trained, too. It is stored in 4 bits and has to stay frozen.")
    if empty:
        raise MistakeError("With both matrices at zero, neither gets a gradient. Only one of them may start there.")
    if not starts:
        raise MistakeError("Before any training, the layer's output already differs from the base's. What should B be?")
    for name, matrix in (("A", A), ("B", B)):
        if not matrix.requires_grad:
            raise MistakeError(f"{name} gets no gradient. It would stay what it was at the start.")
    for factor, mistake in ((16, "The scale is applied twice."), (1, "The scale is gone: it is alpha / rank.")):
        if torch.allclose(added, factor * once, atol=1e-4):
            raise MistakeError(mistake)
    if not torch.allclose(added, 4 * once, atol=1e-4):
        raise MistakeError("With other numbers in A and B, the layer does not add s·B(Ax), where s = alpha / rank.")
    return "✓ Right: it starts as the base, trains both matrices, and scales once. None of the three raised an error."
