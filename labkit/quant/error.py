"""How far a restored weight is from the original."""

from __future__ import annotations

import torch


def relative_error(original: torch.Tensor, restored: torch.Tensor) -> float:
    """Return ‖restored − original‖ / ‖original‖."""
    original, restored = original.detach().float(), restored.detach().float()
    return float((restored - original).norm() / original.norm())
