"""What an operator watches: Prometheus metrics, one registry per application."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_LATENCY = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_JOINED = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """The metrics of one application; every method is thread-safe."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        made: dict[str, Any] = {"registry": self.registry}
        self._requests = Counter("apps_requests", "Answered requests", ["route", "method", "status"], **made)
        self._latency = Histogram(
            "apps_request_seconds",
            "Time from the first byte to the answer",
            ["route"],
            buckets=_LATENCY,
            **made,
        )
        self._rows = Counter("apps_rows", "Input rows that were predicted for", ["model"], **made)
        self._joined = Histogram(
            "apps_batch_requests", "Requests predicted in one call", ["model"], buckets=_JOINED, **made
        )
        self._errors = Counter("apps_errors", "Refused or failed requests", ["kind"], **made)
        self.in_flight = Gauge("apps_requests_in_flight", "Requests being worked on", **made)
        self.ready = Gauge("apps_ready", "1 when requests are taken", **made)
        self.streams = Gauge("apps_streams_open", "Open model streams", **made)
        self.jobs = Gauge("apps_jobs", "Jobs by state", ["state"], **made)
        # finding a labelled child costs more than counting
        self._child = lru_cache(maxsize=1024)(self._labelled)

    def answered(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count one answer."""
        self._child("_requests", route, method, str(status)).inc()
        self._child("_latency", route).observe(seconds)

    def predicted(self, model: str, requests: int, rows: int) -> None:
        """Count one call of a model."""
        self._child("_joined", model).observe(requests)
        self._child("_rows", model).inc(rows)

    def refused(self, kind: str) -> None:
        """Count one problem by its kind."""
        self._child("_errors", kind).inc()

    def text(self) -> bytes:
        """Return the exposition format."""
        return bytes(generate_latest(self.registry))

    def _labelled(self, family: str, *labels: str) -> Any:
        return getattr(self, family).labels(*labels)
