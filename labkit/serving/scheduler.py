"""One thread that runs the model: it takes what waits as a batch, answers it token by token, and takes the next."""

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
    """Answers jobs in batches, first come, first served. Use it in a ``with`` block, which starts and ends its thread.

    Args:
        served: the model and its adapters.
        settings: how many requests wait and are answered together.

    Attributes:
        running: how many jobs the batch at work still has.
        batches: how many batches there were.
    """

    def __init__(self, served: Served, settings: Serving):
        self.served, self.settings = served, settings
        self.running = self.batches = 0
        self._waiting: deque[Job] = deque()
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
        casts, padded = Casts(self.served.model), pads(self.served.model)
        while jobs := self._next(padded):
            self.batches += 1
            try:
                self._answer(Batch(self.served, jobs, casts), jobs)
            except Exception as problem:  # the next batch may go well
                LOG.exception("a batch failed")
                for job in jobs:
                    job.fail(f"The model failed: {first_line(problem)}")
            self.running = 0

    def _answer(self, batch: Batch, jobs: list[Job]) -> None:
        more = True
        while more:
            more = batch.step()
            self.running = sum(not job.over for job in jobs)
            if not self._open:
                for job in jobs:
                    job.fail("closing")
                return

    def _next(self, padded: bool) -> list[Job]:
        """Wait for jobs and return those of the next batch; none once the scheduler is closed."""
        with self._changed:
            if not self._waiting:
                self._changed.wait_for(lambda: self._waiting or not self._open)
                self._changed.wait_for(lambda: not self._open, timeout=GATHER)
            if not self._open:
                while self._waiting:
                    self._waiting.popleft().fail("closing")
                return []
            jobs: list[Job] = []
            for job in list(self._waiting):
                if job.late:
                    self._waiting.remove(job)
                    job.fail("timeout")
                elif self._suits(job, jobs, padded):
                    self._waiting.remove(job)
                    jobs.append(job)
                    job.started = True
            self.running = len(jobs)
        return jobs or self._next(padded)

    def _suits(self, job: Job, jobs: list[Job], padded: bool) -> bool:
        longest = [max(sizes) for sizes in zip(*((len(each.ids), each.count) for each in [*jobs, job]), strict=True)]
        fits = not jobs or (len(jobs) + 1) * sum(longest) <= self.settings.batch_tokens
        return fits and len(jobs) < self.settings.batch_size and (padded or len(job.ids) == longest[0])
