"""Replies of a batch while they grow: which token comes next, and whether it ends the reply."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from labkit.errors import LabkitError, shown
from labkit.generation.sampling import Sampling
from labkit.generation.turns import ends_of_turns
from labkit.models.decoding import Decoding
from labkit.models.generation import added_text, end_ids
from labkit.models.model import Model


@dataclass(frozen=True)
class Reply:
    """What a model added to a prompt.

    Attributes:
        text: without the token or the text that ended it.
        tokens: how many were generated, the one that ended it included.
        stopped: whether the model ended it, or a text of ``stop``; else it has as many tokens as were allowed.
        ids: the tokens.
        logprobs: of each token, the logarithm of the model's probability at the temperature, before top_k and top_p;
            () unless asked for.
        drawn: of each token, the logarithm of the probability that it was drawn with, after top_k and top_p; () unless
            asked for.
        choices: for each token, the tokens that could be drawn; () unless ``drawn`` is asked for, or where all could.
    """

    text: str
    tokens: int
    stopped: bool
    ids: tuple[int, ...]
    logprobs: tuple[float, ...] = ()
    drawn: tuple[float, ...] = field(default=(), repr=False)
    choices: tuple[torch.Tensor, ...] = field(default=(), repr=False, compare=False)


class Replies:
    """The replies to a batch of prompts.

    Args:
        model: a causal model.
        rows: ids of the prompts.
        count: the most tokens of a reply.
        sampling: how tokens are drawn; None takes the likeliest.
        numbers: with ``sampling``, random numbers of shape (rows, count).
        stop: texts that end a reply.
        logprobs: keep the tokens' log-probabilities.
        drawn: with ``sampling``, keep what the tokens were drawn with.
    """

    alike = True  # the model treats all rows in the same way

    def __init__(
        self,
        model: Model,
        rows: Sequence[list[int]],
        count: int,
        sampling: Sampling | None = None,
        numbers: torch.Tensor | None = None,
        stop: tuple[str, ...] = (),
        logprobs: bool = False,
        drawn: bool = False,
    ):
        if not isinstance(sampling, Sampling | None):
            raise LabkitError(
                f"sampling is {shown(sampling)}.", "Pass lk.Sampling(…), or None for the likeliest tokens."
            )
        self.model, self.rows, self.count, self.sampling = model, rows, count, sampling
        self.stop, self.numbers, self.ends = stop, numbers, self.known_ends()
        self.ids: list[list[int]] = [[] for _ in rows]
        self.stopped = [False] * len(rows)
        self._logprobs: list[list[float]] | None = [[] for _ in rows] if logprobs else None
        self._drawn: list[list[float]] = [[] for _ in rows]
        self._choices: list[list[torch.Tensor]] = [[] for _ in rows]
        self._keeps_drawn = drawn
        self._decoding, self._steps = Decoding(model, rows, once=self.alike), 0

    def step(self) -> bool:
        """Add a token to each reply that isn't finished, and return whether any is left.

        Call it inside ``with inference(model)``.
        """
        logits, alive = self._decoding.logits(), self._decoding.alive
        tokens = self.next_tokens(logits, alive)
        if self._logprobs is not None:
            scaled = logits / (self.sampling.temperature if self.sampling else 1)
            found = scaled.log_softmax(-1).gather(1, tokens[:, None])[:, 0].tolist()
            for row, value in zip(alive, found, strict=True):
                self._logprobs[row].append(value)
        if self._keeps_drawn and self.sampling:
            self._keep_drawn(self.sampling, logits, tokens, alive)
        self._steps += 1
        for row, token in zip(alive, tokens.tolist(), strict=True):
            self.ids[row].append(token)
            self.stopped[row] = token in self.ends or any(text in self.text(row) for text in self.stops(row))
        keep = [self.goes_on(row) for row in alive]
        if any(keep):
            self._decoding.append(tokens, keep)
        return any(keep)

    def next_tokens(self, logits: torch.Tensor, alive: list[int]) -> torch.Tensor:
        """Return a token for each of these rows, from logits of shape (rows, vocabulary)."""
        if self.sampling is None or self.numbers is None:
            return logits.argmax(dim=-1)
        return self.sampling.draw(logits, self.numbers[alive, self._steps].to(logits.device))

    def stops(self, row: int) -> tuple[str, ...]:
        """Return the texts that end a reply."""
        return self.stop

    def goes_on(self, row: int) -> bool:
        """Return whether a reply gets another token."""
        return not self.stopped[row] and len(self.ids[row]) < self.count

    def _keep_drawn(self, sampling: Sampling, logits: torch.Tensor, tokens: torch.Tensor, alive: list[int]) -> None:
        scores = sampling.scores(logits)
        found = scores.log_softmax(-1).gather(1, tokens[:, None])[:, 0].tolist()
        for place, row in enumerate(alive):
            self._drawn[row].append(found[place])
            if not sampling.draws_all:
                self._choices[row].append(self.choices(scores[place]))

    def known_ends(self) -> set[int]:
        """Return the tokens that end a reply."""
        return end_ids(self.model) | ends_of_turns(self.model.tokenizer)

    def choices(self, scores: torch.Tensor) -> torch.Tensor:
        """Return the tokens that can be drawn by scores of shape (vocabulary,)."""
        return scores.isfinite().nonzero()[:, 0].int().cpu()

    def text(self, row: int) -> str:
        """Return a reply's text so far, without what ended it."""
        ids = self.ids[row]
        text = added_text(self.model, self.rows[row], ids[:-1] if ids and ids[-1] in self.ends else ids)
        places = [place for end in self.stops(row) if (place := text.find(end)) >= 0]
        return text[: min(places)] if self.stopped[row] and places else text

    def finished(self) -> list[Reply]:
        """Return all replies, in the order of the prompts."""
        kept = self._logprobs or [[]] * len(self.rows)
        return [
            Reply(
                self.text(row),
                len(ids),
                self.stopped[row],
                tuple(ids),
                logprobs=tuple(kept[row]),
                drawn=tuple(self._drawn[row]),
                choices=tuple(self._choices[row]),
            )
            for row, ids in enumerate(self.ids)
        ]
