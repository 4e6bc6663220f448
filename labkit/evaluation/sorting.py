"""Examples of like length together, and their results back in order."""

from __future__ import annotations

import torch

from labkit.errors import require_count
from labkit.training.batching import Example


def parts(examples: list[Example], size: int) -> list[list[Example]]:
    """Return batches of up to ``size`` examples, from the shortest to the longest.

    Raises:
        LabkitError: ``size`` is no count.
    """
    size = require_count("batch_size", size)
    ordered = sorted(examples, key=lambda e: len(e.tokens))  # like lengths together: little padding
    return [ordered[i : i + size] for i in range(0, len(ordered), size)]


def restore(rows: torch.Tensor, examples: list[Example]) -> torch.Tensor:
    """Undo the sorting of ``parts``."""
    order = sorted(range(len(examples)), key=lambda i: len(examples[i].tokens))
    result = torch.empty_like(rows)
    result[order] = rows
    return result
