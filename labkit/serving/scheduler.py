"""One thread that runs the model: it answers a batch token by token, and takes in what waits between two tokens."""

from __future__ import annotations

import logging
import threading
from collections import deque
from types import TracebackType

from labkit.errors import LabkitError, first_line
from labkit.generation.casts import Casts
from labkit.models.decoding import pads
from labkit.serving.batch import Batch, Served
from labkit.serving.jobs import Job
from labkit.serving.settings import Serving

GATHER = 0.005  # seconds that an idle scheduler waits for company: clients that start together share a batch
LOG = logging.getLogger(__name__)


class QueueFullError(LabkitError):
    """So many requests wait that another one can't."""


class Scheduler:
    """Answers jobs together, first come, first served. Use it in a ``with`` block, which starts and ends its thread.

    A job that arrives reads its prompt at once, beside the replies that are growing, and then grows with them
    (continuous batching: Yu et al., 2022, "Orca", OSDI). Where prompts can't be padded, as in recurrent networks, it
    waits until these are finished.

    Args:
        served: the model and its adapters.
        settings: how many requests wait and are answered together.

    Attributes:
        steps: how often the model was run.
    """

    def __init__(self, served: Served, settings: Serving):
        self.served, self.settings, self.steps = served, settings, 0
        self._waiting: deque[Job] = deque()
        self._started: list[Job] = []
        self._changed, self._open = threading.Condition(), True
        self._thread = threading.Thread(target=self._run, name="labkit-serving", daemon=True)

    def __enter__(self) -> Scheduler:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
        self._thread.join()

    def close(self) -> None:
        """Have every job, waiting or at work, fail after the token at work."""
        with self._changed:
            self._open = False
            self._changed.notify_all()

    @property
    def alive(self) -> bool:
        """Whether its thread runs."""
        return self._thread.is_alive()

    @property
    def waiting(self) -> int:
        """How many jobs wait."""
        return len(self._waiting)

    @property
    def running(self) -> int:
        """How many jobs are being answered."""
        return sum(not job.over for job in self._started)

    def submit(self, job: Job) -> None:
        """Put a job into the queue; raise a ``QueueFullError`` where that is full or closed."""
        with self._changed:
            if not self._open or len(self._waiting) >= self.settings.queue:
                raise QueueFullError(f"{len(self._waiting)} requests wait already.", "Ask again in a moment.")
            self._waiting.append(job)
            self._changed.notify_all()

    def cancel(self, job: Job) -> None:
        """Give a job up: it leaves the queue at once, or the batch after the next token."""
        job.over = True
        with self._changed:
            if job in self._waiting:
                self._waiting.remove(job)

    def _run(self) -> None:
        batch: Batch | None = None
        try:
            casts, padded = Casts(self.served.model), pads(self.served.model)
            while self._open:
                arrived = self._arrivals(batch, padded)
                begun = self._step(Batch(self.served, arrived, casts)) if arrived else None
                batch = self._step(batch, begun) if batch else begun
        finally:  # even where the thread itself fails, nobody waits in vain
            self.close()
            for job in [*self._started, *self._waiting]:
                job.fail("closing")

    def _step(self, batch: Batch, begun: Batch | None = None) -> Batch | None:
        """Return a batch, and another one with it, after the next token of each; None where nothing is left to do."""
        try:
            if begun:
                batch.join(begun)
            self.steps += 1
            return batch if batch.step() else None
        except Exception as problem:  # others may go well
            LOG.exception("a step failed")
            for job in [*batch.jobs, *(begun.jobs if begun else ())]:
                job.fail(f"The model failed: {first_line(problem)}")
            return None

    def _arrivals(self, batch: Batch | None, padded: bool) -> list[Job]:
        """Return the jobs that may start now; where no batch is at work, wait for one."""
        with self._changed:
            if not batch and not self._waiting:
                self._changed.wait_for(lambda: self._waiting or not self._open)
                self._changed.wait_for(lambda: not self._open, timeout=GATHER)
            sizes, arrived = batch.sizes if batch else [], list[Job]()
            for job in list(self._waiting) if self._open and (padded or not batch) else ():
                if job.late:
                    self._waiting.remove(job)
                    job.fail("timeout")
                elif self._fits(job, sizes, padded):
                    self._waiting.remove(job)
                    arrived.append(job)
                    sizes.append((len(job.ids), job.count))
                    job.started = True
                elif padded:  # nobody overtakes: a large request might wait for ever
                    break
            self._started = [job for job in self._started if not job.over] + arrived
        return arrived

    def _fits(self, job: Job, sizes: list[tuple[int, int]], padded: bool) -> bool:
        if not sizes:
            return True
        read, left = (max(counts) for counts in zip(*sizes, (len(job.ids), job.count), strict=True))
        small = len(sizes) < self.settings.batch_size and (len(sizes) + 1) * (read + left) <= self.settings.batch_tokens
        return small and (padded or len(job.ids) == read)
