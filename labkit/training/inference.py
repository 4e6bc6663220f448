"""One pass over many examples: batches of similar length, results in the order of the examples."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch

from labkit.errors import require_count
from labkit.models.encoding import padding_id
from labkit.models.evaluation_mode import inference
from labkit.models.model import Model
from labkit.training.batching import Batch, Example, collate


@dataclass
class Part(Batch):
    """A batch of some of the examples.

    Attributes:
        rows: the indices of these examples, from 0.
    """

    rows: list[int] = field(kw_only=True)


def batches_of(model: Model, examples: Sequence[Example], size: int) -> Iterator[Part]:
    """Return batches of up to ``size`` examples, from the shortest to the longest, on the model's device.

    Loop over them inside ``with inference(model):``. This function doesn't switch gradients off itself: a generator
    that did would leave them off for callers who stop halfway.

    Raises:
        LabkitError: ``size`` is not a whole number from 1 up.
    """
    size = require_count("batch_size", size)
    order = sorted(
        range(len(examples)), key=lambda i: len(examples[i].tokens)
    )  # similar lengths together: little padding
    parts = (order[i : i + size] for i in range(0, len(order), size))
    return (_part(model, examples, rows) for rows in parts)


def infer(
    model: Model, examples: Sequence[Example], size: int, function: Callable[[Part], torch.Tensor]
) -> torch.Tensor:
    """Return the results of ``function`` on the batches: one row per example, in the examples' order, on the CPU."""
    with inference(model):
        parts = [(part.rows, function(part).cpu()) for part in batches_of(model, examples, size)]
    values = torch.cat([rows for _, rows in parts])
    result = torch.empty_like(values)
    result[[row for rows, _ in parts for row in rows]] = values
    return result


def _part(model: Model, examples: Sequence[Example], rows: list[int]) -> Part:
    batch = collate([examples[i] for i in rows], padding_id(model), model.device)
    return Part(**vars(batch), rows=rows)
