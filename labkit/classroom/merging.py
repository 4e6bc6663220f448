"""The data of notebook 12's exercises that write code, their right answers, and those that typical mistakes give."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch

from labkit.methods import combinations

Adapter: TypeAlias = tuple[torch.Tensor, torch.Tensor, float]
Layer: TypeAlias = tuple[torch.Tensor, torch.Tensor, list[Adapter], list[int | None]]


def draw_layer(ranks: Sequence[int], inputs: int, outputs: int, chosen: list[int | None]) -> Layer:
    """Return a batch, a weight, an adapter of each rank and what the rows take."""
    random = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=random)

    adapters = [(draw(rank, inputs), draw(outputs, rank), number + 0.5) for number, rank in enumerate(ranks)]
    return draw(len(chosen), 3, inputs), draw(outputs, inputs), adapters, list(chosen)


def mixed_outputs(
    x: torch.Tensor, W: torch.Tensor, adapters: Sequence[Adapter], chosen: Sequence[int | None]
) -> torch.Tensor:
    """Return the right answer, by a merged weight for each row."""
    merged = [W + scale * B @ A for A, B, scale in adapters]
    return torch.einsum("rti,roi->rto", x, torch.stack([W if number is None else merged[number] for number in chosen]))


def wrong_outputs(
    x: torch.Tensor, W: torch.Tensor, adapters: list[Adapter], chosen: list[int | None]
) -> list[tuple[str, torch.Tensor]]:
    """Return typical mistakes, each with the outputs that it leads to."""
    right, y = mixed_outputs(x, W, adapters, chosen), x @ W.T
    is_base = torch.tensor([number is None for number in chosen])[:, None, None]
    numbers, first = range(len(adapters)), torch.arange(len(x))[:, None, None] == 0
    swapped = mixed_outputs(x, W, [(B.T, A.T, scale) for A, B, scale in adapters], chosen)
    of_outputs = y + torch.where(is_base, 0, mixed_outputs(y, 0 * W, adapters, chosen))
    grown, outputs = W, []
    for row, number in zip(x, chosen, strict=True):
        grown = grown if number is None else grown + adapters[number][2] * adapters[number][1] @ adapters[number][0]
        outputs.append(row @ grown.T)
    falsy = [number or None for number in chosen]
    all_alike = "All rows take the same adapter. Each has its own, by its place in chosen."
    none = "A row whose entry is None takes no adapter: it gets Wx alone."
    return [
        *[(all_alike, mixed_outputs(x, W, adapters, [number] * len(x))) for number in numbers],
        ("No row takes an adapter: that is Wx alone.", y),
        ("The scale is missing: LoRA adds s·BAx.", mixed_outputs(x, W, [(A, B, 1.0) for A, B, _ in adapters], chosen)),
        *[(none, mixed_outputs(x, W, adapters, [n if each is None else each for each in chosen])) for n in numbers],
        ("Rows that take the base are 0. They are Wx.", torch.where(is_base, 0, right)),
        (
            "Rows that take adapter 0 got none: 0 is false in Python, but it is an adapter.",
            mixed_outputs(x, W, adapters, falsy),
        ),
        ("A and B are swapped. A comes first: it maps the inputs to the rank.", swapped),
        ("W is not transposed: its rows belong to the outputs.", right - y + x @ W),
        ("Wx is missing: an adapter adds to what the base computes.", right - y),
        (
            "Each row takes the sum of all adapters.",
            y + sum(mixed_outputs(x, 0 * W, adapters, [n] * len(x)) for n in numbers),
        ),
        ("From row to row, adapters pile up. Each row starts from W again.", torch.stack(outputs)),
        ("Only the first row is right. Does your loop return too early?", torch.where(first, right, y)),
        ("The adapter reads Wx. It lies beside W, and reads x.", of_outputs),
    ]


def draw_updates(*shape: int) -> torch.Tensor:
    """Return an update for each of several tasks: the first size says how many."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def merged_by_ties(updates: torch.Tensor, density: float) -> torch.Tensor:
    """Return what ``lk.combine`` computes of each factor."""
    ones = torch.ones(len(updates), *[1] * (updates.dim() - 1))
    return combinations.ties(updates, ones, density, torch.Generator())


def _trimmed(updates: torch.Tensor, count: int, key: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
    """Return the numbers with the largest keys in the last dimension; the others are 0."""
    places = key(updates).topk(count).indices
    return torch.zeros_like(updates).scatter(-1, places, updates.gather(-1, places))


def wrong_merges(updates: torch.Tensor, density: float) -> list[tuple[str, torch.Tensor]]:
    """Return typical mistakes, each with the merge that it leads to."""
    tasks, rows, columns = updates.shape
    flat = updates.flatten(1)
    count = int(density * flat.shape[1])
    kept = _trimmed(flat, count, torch.abs)
    sign = kept.sum(0).sign()
    agreeing = kept * (kept.sign() == sign)

    def merged(kept: torch.Tensor, sign: torch.Tensor | None = None) -> torch.Tensor:
        agree = kept.sign() == (kept.sum(0).sign() if sign is None else sign)
        return (kept * agree).sum(0) / (agree & (kept != 0)).sum(0).clamp(min=1)

    together = _trimmed(flat.flatten(), tasks * count, torch.abs).view_as(flat)
    row_by_row = _trimmed(updates, int(density * columns), torch.abs).flatten(1)
    positive = torch.where(kept.sum(0) > 0, kept >= 0, kept <= 0)
    found = [
        ("That is the plain mean: nothing is trimmed, and no sign elected.", flat.mean(0)),
        ("No sign is elected: tasks that disagree still cancel each other out.", kept.mean(0)),
        ("No sign is elected: you add up what is left.", kept.sum(0)),
        ("No sign is elected: you average all that was kept.", kept.sum(0) / (kept != 0).sum(0).clamp(min=1)),
        ("You divide by the number of tasks. Divide by how many kept a number of the sign.", agreeing.sum(0) / tasks),
        (
            "Zeros count in your mean: a task that dropped its number has no say.",
            agreeing.sum(0) / positive.sum(0).clamp(min=1),
        ),
        (
            "Tasks that lost the vote count in your mean. Count only those of the elected sign.",
            agreeing.sum(0) / (kept != 0).sum(0).clamp(min=1),
        ),
        ("That is the sum of those that agree. TIES takes their mean.", agreeing.sum(0)),
        ("Nothing is trimmed: all numbers vote.", merged(flat)),
        (
            "Each task has one vote in yours, however small its number. The sum decides.",
            merged(kept, torch.where(kept.sign().sum(0) >= 0, 1.0, -1.0)),
        ),
        (
            "Each task has one vote in yours, however small its number. The sum decides.",
            merged(kept, kept.sign().sum(0).sign()),
        ),
        (
            "The signs are elected by all numbers. Trim first, then let what is left vote.",
            merged(kept, flat.sum(0).sign()),
        ),
        (
            "density is the share that is kept, and you drop it.",
            merged(_trimmed(flat, flat.shape[1] - count, torch.abs)),
        ),
        ("You keep the smallest changes.", merged(_trimmed(flat, count, lambda each: -each.abs()))),
        (
            "You keep the largest numbers. What counts is their size: −3 is a larger change than 1.",
            merged(_trimmed(flat, count, torch.clone)),
        ),
        ("You trim all tasks together. Each keeps the same share of its own.", merged(together)),
        ("You trim row by row. The share is one of the whole update.", merged(row_by_row)),
    ]
    return [(text, values.view(rows, columns)) for text, values in found]


def same(result: Any, values: torch.Tensor) -> bool:
    """Return whether an answer is a tensor of these values, but for rounding."""
    if not isinstance(result, torch.Tensor) or result.shape != values.shape:
        return False
    return torch.allclose(result.double(), values.double(), rtol=1e-4, atol=1e-5)
