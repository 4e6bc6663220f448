"""Requests that are answered together, each by its own adapter and with its own settings."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Protocol

import torch

from labkit.generation.casts import Casts
from labkit.generation.chat import UNFINISHED
from labkit.generation.replies import Replies
from labkit.models.evaluation_mode import inference
from labkit.models.model import Model
from labkit.serving.jobs import Job, Progress


class Served(Protocol):
    """What an endpoint answers with: ``lk.Specialists``, or a model ``Alone``."""

    @property
    def names(self) -> tuple[str, ...]:
        """What may be asked for."""

    @property
    def model(self) -> Model:
        """The network that answers."""

    def using(self, names: Sequence[str]) -> AbstractContextManager:
        """Have ``model`` compute as these do, row by row, inside the block."""


@dataclass(frozen=True)
class Alone:
    """A model without adapters to choose among."""

    model: Model

    @property
    def names(self) -> tuple[str, ...]:
        """What may be asked for."""
        return (self.model.name,)

    def using(self, names: Sequence[str]) -> AbstractContextManager:
        """Change nothing."""
        return nullcontext()


class Batch(Replies):
    """The replies to jobs, which grow together, end one by one, and are joined by others between two steps.

    Args:
        served: whose adapters.
        jobs: at least one.
        casts: of the served model.
    """

    alike = False  # two adapters read the same prompt in their own ways

    def __init__(self, served: Served, jobs: Sequence[Job], casts: Casts):
        super().__init__(served.model, [job.ids for job in jobs], max(job.count for job in jobs))
        self.served, self.jobs, self.casts = served, list(jobs), casts
        self.sent = [0] * len(self.jobs)  # characters

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """Of each reply that isn't finished, the tokens so far, the prompt's included, and the most that may follow."""
        return [
            (len(self.rows[row]) + len(self.ids[row]), self.jobs[row].count - len(self.ids[row]))
            for row in self._decoding.alive
        ]

    def join(self, other: Batch) -> None:
        """Go on with the replies of another batch, too; those that are finished leave this one.

        Call it when ``step`` has just returned True on both.
        """
        for name in ("rows", "ids", "stopped", "jobs", "sent"):
            setattr(self, name, [getattr(part, name)[row] for part in (self, other) for row in part._decoding.alive])
        self._decoding.join(other._decoding)

    def step(self) -> bool:
        """Add a token to each reply that isn't finished, report them, and return whether any is left."""
        alive = list(self._decoding.alive)
        names = [self.jobs[row].name for row in alive]
        with self.served.using(names), inference(self.model), self.casts.swapped():
            more = super().step()
        for row in alive:
            self._report(row)
        return more

    def next_tokens(self, logits: torch.Tensor, alive: list[int]) -> torch.Tensor:
        """Return a token for each of these rows, as its job wants it drawn."""
        tokens = logits.argmax(dim=-1)
        for place, row in enumerate(alive):
            job = self.jobs[row]
            if job.sampling is not None and job.numbers is not None:
                number = job.numbers[len(self.ids[row])].to(logits.device)
                tokens[place] = job.sampling.draw(logits[place, None], number[None])[0]
        return tokens

    def stops(self, row: int) -> tuple[str, ...]:
        """Return the texts that end a row."""
        return self.jobs[row].stop

    def goes_on(self, row: int) -> bool:
        """Return whether a row gets another token: its job isn't over, late or as long as it may be."""
        job = self.jobs[row]
        if job.late:
            job.fail("timeout")
        return not (self.stopped[row] or job.over) and len(self.ids[row]) < job.count

    def _report(self, row: int) -> None:
        job, whole = self.jobs[row], not self.goes_on(row)
        if job.over or not (whole or job.stream):
            return
        text, tokens = self.text(row), len(self.ids[row])
        ready = text if whole else text[: _settled(text, job.stop)]
        piece = ready[self.sent[row] :]
        self.sent[row] += len(piece)
        if whole:
            job.finish(Progress(piece, "stop" if self.stopped[row] else "length", tokens))
        elif piece:
            job.report(Progress(piece, tokens=tokens))


def _settled(text: str, stops: Sequence[str]) -> int:
    """Return how much of a text stays, whatever comes: no half character, no beginning of a text that ends it."""
    text = text.rstrip(UNFINISHED)  # the character to come may belong to a text that ends the reply, too
    sure = len(text)
    for stop in stops:
        for length in range(min(len(stop) - 1, len(text)), 0, -1):
            if text.endswith(stop[:length]):
                sure = min(sure, len(text) - length)
                break
    return sure
