"""What an operator watches: requests, tokens, the queue."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from labkit.serving.jobs import Job
from labkit.serving.scheduler import Scheduler

BUCKETS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100)


class Metrics:
    """Counters of one endpoint, in a registry of its own.

    Args:
        scheduler: whose queue is shown.
    """

    def __init__(self, scheduler: Scheduler):
        self.registry = registry = CollectorRegistry()
        self.requests = Counter("labkit_requests", "Requests answered.", ["path", "status"], registry=registry)
        self.tokens = Counter("labkit_tokens", "Tokens read and written.", ["model", "kind"], registry=registry)
        self.seconds = Histogram(
            "labkit_request_seconds", "From a request's first byte to its answer's last.", ["path"],
            registry=registry, buckets=BUCKETS,
        )  # fmt: skip
        shown = {
            "waiting": ("Requests in the queue.", lambda: scheduler.waiting),
            "running": ("Requests in the batch at work.", lambda: scheduler.running),
            "batches": ("Batches begun since the start.", lambda: scheduler.batches),
        }
        for name, (meaning, value) in shown.items():
            Gauge(f"labkit_{name}", meaning, registry=registry).set_function(value)

    def count(self, job: Job, written: int) -> None:
        """Count the tokens of a finished job."""
        self.tokens.labels(job.name, "read").inc(len(job.ids))
        self.tokens.labels(job.name, "written").inc(written)

    def page(self) -> bytes:
        """Return all of them in Prometheus' text format."""
        return generate_latest(self.registry)
