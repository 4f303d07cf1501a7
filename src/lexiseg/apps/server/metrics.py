"""What is counted, for Prometheus; of this server alone."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_SECONDS = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Metrics:
    """Counters of one server.

    Attributes:
        registry: all of them.
        requests: by path and status.
        seconds: to the end of an answer, by path.
        waiting: requests that have a place in the queue now.
        batch: pictures that ran together.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "lexiseg_requests", "Requests answered.", ["path", "status"], registry=self.registry
        )
        self.seconds = Histogram(
            "lexiseg_request_seconds",
            "Seconds to the end of the answer.",
            ["path"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.waiting = Gauge(
            "lexiseg_waiting", "Requests waiting or running.", registry=self.registry
        )
        self.batch = Histogram(
            "lexiseg_batch_size",
            "Requests that the model thread ran together.",
            buckets=(1, 2, 4, 8, 16),
            registry=self.registry,
        )
