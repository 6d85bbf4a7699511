"""What an operator watches: Prometheus metrics of one worker, or of all that share a folder.

Counting is a few additions: it happens at each request. Workers write what they counted into a file each,
twice a second and when they end, so that any of them can tell the sum; that of a worker that died stays.
"""

from __future__ import annotations

import json
import os
import threading
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from appliedpapers.core.files import whole_file

_LATENCY = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_JOINED = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0)
_COUNTERS = {
    "apps_requests": ("Answered requests", ["route", "method", "status"]),
    "apps_rows": ("Input rows that were predicted for", ["model"]),
    "apps_errors": ("Refused or failed requests", ["kind"]),
}
_HISTOGRAMS = {
    "apps_request_seconds": ("Time from the first byte to the answer", "route", _LATENCY),
    "apps_batch_requests": ("Requests predicted in one call", "model", _JOINED),
}
_GAUGES = {
    "apps_requests_in_flight": "Requests being worked on",
    "apps_ready": "Workers that take requests",
    "apps_streams_open": "Open model streams",
}
_SUFFIX = ".metrics.json"


class Metrics:
    """The metrics of one worker.

    Args:
        folder: Where workers tell each other what they counted; None for a worker that is alone.

    Attributes:
        in_flight: Requests being worked on.
        ready: 1 when requests are taken.
        streams: Open model streams.
        jobs: Jobs by state, which all workers see alike.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.in_flight = 0
        self.ready = 0
        self.streams = 0
        self.jobs: dict[str, int] = {}
        self._folder = folder
        self._counts: Counter[tuple[str, ...]] = Counter()
        # sum, then a count for each bucket and one for what is beyond
        self._latency: dict[str, list[float]] = defaultdict(lambda: [0.0] * (len(_LATENCY) + 2))
        self._joined: dict[str, list[float]] = defaultdict(lambda: [0.0] * (len(_JOINED) + 2))
        self._lock = threading.Lock()

    def answered(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count one answer, in the event loop."""
        self._counts["apps_requests", route, method, str(status)] += 1
        cells = self._latency[route]
        cells[0] += seconds
        cells[bisect_left(_LATENCY, seconds) + 1] += 1

    def predicted(self, model: str, requests: int, rows: int) -> None:
        """Count one call of a model, in any thread."""
        with self._lock:
            self._counts["apps_rows", model] += rows
            cells = self._joined[model]
            cells[0] += requests
            cells[bisect_left(_JOINED, requests) + 1] += 1

    def refused(self, kind: str) -> None:
        """Count one problem by its kind, in any thread."""
        with self._lock:
            self._counts["apps_errors", kind] += 1

    @contextmanager
    def stream(self) -> Iterator[None]:
        """Count a stream while it is open."""
        self.streams += 1
        try:
            yield
        finally:
            self.streams -= 1

    def text(self) -> bytes:
        """Return the exposition format, summed over the workers."""
        registry = CollectorRegistry()
        registry.register(_Collected([self._snapshot(), *self._others()], self.jobs))
        return bytes(generate_latest(registry))

    def publish(self, *, ended: bool = False) -> None:
        """Tell the other workers what was counted."""
        if self._folder is None:
            return
        snapshot = self._snapshot()
        if ended:
            snapshot["gauges"] = {}
        with suppress(OSError), whole_file(self._own) as aside:
            aside.write_text(json.dumps(snapshot), encoding="utf-8")

    @property
    def _own(self) -> Path:
        assert self._folder is not None
        return self._folder / f"{os.getpid()}{_SUFFIX}"

    def _others(self) -> list[dict[str, Any]]:
        found = []
        for path in self._folder.glob(f"*{_SUFFIX}") if self._folder is not None else ():
            with suppress(OSError, ValueError):
                if path != self._own:
                    found.append(json.loads(path.read_text(encoding="utf-8")))
        return found

    def _snapshot(self) -> dict[str, Any]:
        with self._lock:
            return {
                "counts": [[*key, value] for key, value in list(self._counts.items())],
                "apps_request_seconds": {key: list(cells) for key, cells in list(self._latency.items())},
                "apps_batch_requests": {key: list(cells) for key, cells in list(self._joined.items())},
                "gauges": {
                    "apps_requests_in_flight": self.in_flight,
                    "apps_ready": self.ready,
                    "apps_streams_open": self.streams,
                },
            }


def forget_worker(folder: Path, pid: int) -> None:
    """Keep what a worker that has died counted, and drop what it was doing."""
    path = folder / f"{pid}{_SUFFIX}"
    with suppress(OSError, ValueError):
        snapshot = json.loads(path.read_text(encoding="utf-8")) | {"gauges": {}}
        with whole_file(path) as aside:
            aside.write_text(json.dumps(snapshot), encoding="utf-8")


class _Collected:
    def __init__(self, snapshots: list[dict[str, Any]], jobs: dict[str, int]) -> None:
        self._snapshots = snapshots
        self._jobs = jobs

    def collect(self) -> Iterator[Metric]:
        """Yield the families, each summed over the snapshots."""
        counts: Counter[tuple[str, ...]] = Counter()
        for snapshot in self._snapshots:
            for *key, value in snapshot["counts"]:
                counts[tuple(key)] += value
        for name, (text, labels) in _COUNTERS.items():
            counter = CounterMetricFamily(name, text, labels=labels)
            for (family, *values), count in counts.items():
                if family == name:
                    counter.add_metric(values, count)
            yield counter
        for name, (text, label, bounds) in _HISTOGRAMS.items():
            yield self._histogram(HistogramMetricFamily(name, text, labels=[label]), name, bounds)
        for name, text in _GAUGES.items():
            yield GaugeMetricFamily(name, text, sum(item["gauges"].get(name, 0) for item in self._snapshots))
        jobs = GaugeMetricFamily("apps_jobs", "Jobs by state", labels=["state"])
        for state, number in self._jobs.items():
            jobs.add_metric([state], number)
        yield jobs

    def _histogram(self, family: HistogramMetricFamily, name: str, bounds: tuple[float, ...]) -> Metric:
        for key in sorted({key for snapshot in self._snapshots for key in snapshot[name]}):
            given = [snapshot[name][key] for snapshot in self._snapshots if key in snapshot[name]]
            total, *cells = (sum(column) for column in zip(*given, strict=True))
            buckets, below = [], 0.0
            for bound, count in zip((*map(str, bounds), "+Inf"), cells, strict=True):
                below += count
                buckets.append((bound, below))
            family.add_metric([key], buckets, total)
        return family
