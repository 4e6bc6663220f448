"""Draw the next token instead of taking the likeliest."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from labkit.errors import LabkitError, require_count, require_number, require_seed, set_checked


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn.

    Attributes:
        temperature: what logits are divided by; below 1 the likely tokens become likelier.
        top_k: only so many of the likeliest tokens are drawn from; None takes all.
        top_p: only the likeliest tokens that together have this probability (Holtzman et al., 2020, arXiv:1904.09751),
            above 0 up to 1; 1 takes all. It counts after ``top_k``, on what that left, as in transformers.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float = 1.0

    def __post_init__(self) -> None:
        set_checked(
            self,
            temperature=require_number("temperature", self.temperature, above=0, remedy="For greedy: sampling=None."),
            top_p=require_number("top_p", self.top_p, above=0),
        )
        if self.top_p > 1:
            raise LabkitError(f"top_p is a probability, not {self.top_p}.", "Try 0.9; 1 takes all tokens.")
        if self.top_k is not None:
            set_checked(self, top_k=require_count("top_k", self.top_k, remedy="Try 50; None takes all tokens."))

    @property
    def draws_all(self) -> bool:
        """Whether any token may be drawn."""
        return self.top_k is None and self.top_p == 1

    def probabilities(self, logits: torch.Tensor) -> torch.Tensor:
        """Return what tokens are drawn with, shape (rows, vocabulary), from logits of the same shape."""
        return self.scores(logits).softmax(-1)

    def scores(self, logits: torch.Tensor) -> torch.Tensor:
        """Return logits divided by the temperature, and -inf for tokens that are not drawn."""
        logits = logits / self.temperature
        if self.top_k is not None and self.top_k < logits.shape[-1]:
            least = logits.topk(self.top_k).values[:, -1:]
            logits = logits.masked_fill(logits < least, -torch.inf)
        if self.top_p < 1:
            ranked, order = logits.sort(descending=True)
            shares = ranked.softmax(-1)
            # A token stays if those before it have less than top_p together; so the likeliest always stays.
            cut = shares.cumsum(-1) - shares >= self.top_p
            logits = logits.masked_fill(torch.zeros_like(cut).scatter(-1, order, cut), -torch.inf)
        return logits

    def draw(self, logits: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
        """Return a token for each row of logits.

        Args:
            logits: shape (rows, vocabulary).
            numbers: one for each row, from 0 to below 1, in float64: where in the summed probabilities the token lies.
        """
        sums = self.probabilities(logits).double().cumsum(-1)
        # Rounding may have made the sum other than 1, and a token without probability must not be drawn.
        places = torch.searchsorted(sums, numbers[:, None].to(sums) * sums[:, -1:], right=True)
        return torch.minimum(places, (sums < sums[:, -1:]).sum(-1, keepdim=True))[:, 0]


def random_numbers(rows: Sequence[Sequence[int]], count: int, seed: int) -> torch.Tensor:
    """Return random numbers for ``count`` tokens of each prompt, shape (rows, count), in float64.

    They depend on the seed, on the prompt's ids, and on how often the same prompt came before: not on the order of
    the prompts, nor on how they are divided into batches.
    """
    seed, seen, drawn = require_seed(seed), Counter[tuple[int, ...]](), []
    for row in map(tuple, rows):
        digest = hashlib.sha256(repr((seed, row, seen[row])).encode()).digest()
        seen[row] += 1
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
        drawn.append(torch.rand(count, generator=generator, dtype=torch.float64))
    return torch.stack(drawn) if drawn else torch.empty(0, count, dtype=torch.float64)
