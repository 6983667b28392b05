"""What is counted while a run is served, for Prometheus.

What a reader would get wrong: labels are never taken from a request. A path is one of a few that are ours, or "other".
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.process_collector import ProcessCollector

PATHS = ("/predict", "/about", "/health", "/metrics", "/docs", "/openapi.json")
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
ROWS = (1, 2, 4, 8, 16, 32, 64, 256, 1024, 4096, 16384)


class Gauges:
    """Counters of one server."""

    def __init__(self) -> None:
        self.registry = kept = CollectorRegistry()
        ProcessCollector(registry=kept)
        self.requests = Counter("fathom_requests", "Requests by path and status.", ["path", "status"], registry=kept)
        self.seconds = Histogram(
            "fathom_request_seconds", "From header to answer.", ["path"], buckets=SECONDS, registry=kept
        )
        self.inside = Gauge("fathom_requests_inside", "Requests that are read, wait or are computed.", registry=kept)
        self.shed = Counter("fathom_requests_shed", "Sent away because too many were inside.", registry=kept)
        self.rows = Counter("fathom_rows", "Rows that were answered.", registry=kept)
        self.together = Histogram("fathom_rows_together", "Rows computed at once.", buckets=ROWS, registry=kept)

    def answered(self, path: str, status: int, seconds: float) -> None:
        label = path if path in PATHS else "other"
        self.requests.labels(label, str(status)).inc()
        self.seconds.labels(label).observe(seconds)

    def computed(self, rows: int) -> None:
        self.rows.inc(rows)
        self.together.observe(rows)

    def text(self) -> bytes:
        return generate_latest(self.registry)
