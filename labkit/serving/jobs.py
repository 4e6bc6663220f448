"""A request on its way through the scheduler, and what it hears from there."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from labkit.generation.sampling import Sampling


@dataclass(frozen=True)
class Progress:
    """What has become of a reply since the last report.

    Attributes:
        text: what was added.
        finish: ``"stop"`` or ``"length"`` where the reply is whole, ``"error"`` where there is none.
        tokens: how many were generated so far.
        problem: with an error, the cause.
    """

    text: str = ""
    finish: str | None = None
    tokens: int = 0
    problem: str = ""


@dataclass(eq=False)
class Job:
    """A reply that is asked for.

    Attributes:
        name: the model or adapter.
        ids: the prompt's tokens.
        count: the most new tokens.
        deadline: when it is given up, on the clock of ``time.monotonic``.
        report: is called with each ``Progress``, from the scheduler's thread.
        sampling, numbers: how tokens are drawn, with which random numbers, shape (count,); None takes the likeliest.
        stop: texts that end the reply.
        stream: report each piece of text, not only the whole.
        started: whether it left the queue.
        over: whether nobody waits for it any more, or it is done.
    """

    name: str
    ids: list[int]
    count: int
    deadline: float
    report: Callable[[Progress], None]
    sampling: Sampling | None = None
    numbers: torch.Tensor | None = None
    stop: tuple[str, ...] = ()
    stream: bool = False
    started: bool = False
    over: bool = field(default=False, init=False)

    @property
    def late(self) -> bool:
        """Whether its time is up."""
        return time.monotonic() > self.deadline

    def fail(self, problem: str) -> None:
        """End it with an error, unless it is over."""
        self.finish(Progress(finish="error", problem=problem))

    def finish(self, progress: Progress) -> None:
        """End it with a last report, unless it is over."""
        if not self.over:
            self.over = True
            self.report(progress)
