"""How far apart two models' predictions are, token by token."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from labkit.errors import LabkitError
from labkit.generation.prompts import Prompts, fitted
from labkit.memory.free import return_freed_memory
from labkit.methods.exact import in_float32
from labkit.models.model import Model
from labkit.process import alone


@dataclass(frozen=True)
class LogitDifference:
    """How far one model's predictions are from another's.

    Attributes:
        positions: after how many tokens the next one was predicted.
        largest: the largest difference of a logit. It moves with a single number of the vocabulary.
        kl: the mean KL divergence from the first model's predictions, in nats.
        agreement: the share of positions with the same likeliest token.
    """

    positions: int
    largest: float
    kl: float
    agreement: float

    def __str__(self) -> str:
        return (
            f"at {self.positions} positions: logits at most {self.largest:.2g} apart, KL divergence {self.kl:.2g} "
            f"nats, the same likeliest token at {self.agreement:.1%}"
        )


def logit_difference(model: Model, other: Model, prompts: Prompts) -> LogitDifference:
    """Return how far the predictions of ``other`` are from those of ``model``, at every token of the prompts.

    Both are computed in float32, whatever their precision: then the difference comes from their weights alone. Weights
    in 4 bits are dequantized, and adapters stay beside the weights. The logits of all prompts are in memory at once:
    vocabulary × tokens × 8 bytes.

    Args:
        model: the one to compare with, such as a run's, with its adapter.
        other: one with the same vocabulary, such as a merged one.
        prompts: texts, token ids or conversations.

    Raises:
        LabkitError: a model is an encoder, there are no prompts, or the vocabularies differ.
    """
    here, there = (each.embeddings.num_embeddings for each in (model, other))
    if here != there:
        raise LabkitError(
            f"{model.name} knows {here} tokens, and {other.name} {there}.", "Compare models with the same vocabulary."
        )
    rows = fitted(other, fitted(model, prompts, 1), 1)
    if not rows:
        raise LabkitError("There are no prompts.", "Pass at least one.")
    found = compared(_logits(model, rows), _logits(other, rows))
    return_freed_memory()
    return found


def compared(wanted: Sequence[torch.Tensor], found: Sequence[torch.Tensor]) -> LogitDifference:
    """Compare two lists of logits, each of shape (tokens, vocabulary).

    Where shapes differ or a number is none, the difference is infinite.
    """
    if [rows.shape for rows in wanted] != [rows.shape for rows in found]:
        return LogitDifference(0, math.inf, math.inf, 0.0)
    pairs = list(zip(wanted, found, strict=True))
    largest = torch.stack([(a - b).abs().max() for a, b in pairs]).max().item()
    kl = torch.cat([_divergence(a.double(), b.double()) for a, b in pairs]).mean().item()
    same = torch.cat([a.argmax(dim=-1) == b.argmax(dim=-1) for a, b in pairs])
    whole = not (math.isnan(largest) or math.isnan(kl))
    return LogitDifference(
        len(same), largest if whole else math.inf, kl if whole else math.inf, same.float().mean().item()
    )


def _divergence(wanted: torch.Tensor, found: torch.Tensor) -> torch.Tensor:
    """Return KL(wanted ‖ found) at each token, in nats, shape (tokens,); not below 0 by rounding."""
    p, q = wanted.log_softmax(dim=-1), found.log_softmax(dim=-1)
    return (p.exp() * (p - q)).sum(dim=-1).clamp(min=0)


def _logits(model: Model, rows: list[list[int]]) -> list[torch.Tensor]:
    """Return the logits of each row, shape (tokens, vocabulary), computed in float32."""
    with alone(), torch.no_grad():
        network = in_float32(model)
        return [network(input_ids=torch.tensor([row]), use_cache=False).logits[0] for row in rows]
