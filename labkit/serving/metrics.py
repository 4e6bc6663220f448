"""What an operator watches: requests, tokens, the queue."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from labkit.serving.jobs import Job
from labkit.serving.scheduler import Scheduler

BUCKETS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100)


class Metrics(Collector):
    """Counters of one endpoint, in a registry of its own.

    Args:
        scheduler: whose queue is shown.
    """

    def __init__(self, scheduler: Scheduler):
        self.scheduler, self.registry = scheduler, CollectorRegistry()
        self.requests = Counter("labkit_requests", "Requests answered.", ["path", "status"], registry=self.registry)
        self.tokens = Counter(
            "labkit_tokens", "Tokens read and written, of whole replies.", ["model", "kind"], registry=self.registry
        )
        self.seconds = Histogram(
            "labkit_request_seconds", "From a request's first byte to its answer's last.", ["path"],
            registry=self.registry, buckets=BUCKETS,
        )  # fmt: skip
        self.registry.register(self)

    def collect(self) -> Iterator[Metric]:
        """Yield what the scheduler knows itself, as Prometheus' client asks collectors for it."""
        yield GaugeMetricFamily("labkit_requests_waiting", "Requests in the queue.", self.scheduler.waiting)
        yield GaugeMetricFamily("labkit_requests_running", "Requests being answered.", self.scheduler.running)
        yield CounterMetricFamily("labkit_steps", "How often the model was run.", self.scheduler.steps)

    def count(self, job: Job, written: int) -> None:
        """Count the tokens of a finished job."""
        self.tokens.labels(job.name, "read").inc(len(job.ids))
        self.tokens.labels(job.name, "written").inc(written)

    def page(self) -> bytes:
        """Return all of them in Prometheus' text format."""
        return generate_latest(self.registry)
