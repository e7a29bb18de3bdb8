"""TensorFlow Serving's metrics, by its names, in Prometheus' text form.

TensorFlow's names begin with a colon and its counters do not end in `_total`, which Prometheus' own client library
writes otherwise; so the text is written here, as `prometheus_exporter.cc` writes it.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

Labels = tuple[str, ...]


def _exponential(scale: float, growth: float, count: int) -> tuple[float, ...]:
    """Upper bounds of `count` buckets, the last of which has none."""
    return tuple(scale * growth**power for power in range(count - 1))


#: Microseconds from 10 to about 20 minutes, as TensorFlow Serving buckets latencies.
_LATENCIES = _exponential(10, 1.8, 33)


@dataclass
class _Distribution:
    counts: list[int]
    total: float = 0.0


class Counter:
    """A number for each combination of labels that only grows."""

    def __init__(self, name: str, labels: Sequence[str]) -> None:
        self._name = name
        self._labels = tuple(labels)
        self._values: dict[Labels, int] = {}
        self._lock = threading.Lock()

    def add(self, *labels: str, amount: int = 1) -> None:
        """Adds to the number of these labels' values."""
        with self._lock:
            self._values[labels] = self._values.get(labels, 0) + amount

    def lines(self) -> Iterator[str]:
        """Prometheus' text."""
        with self._lock:
            values = sorted(self._values.items())
        if values:
            yield f"# TYPE {self._name} counter"
        for labels, value in values:
            yield f"{self._name}{{{_pairs(self._labels, labels)}}} {value}"


class Histogram:
    """A distribution for each combination of labels."""

    def __init__(self, name: str, labels: Sequence[str], bounds: Sequence[float]) -> None:
        self._name = name
        self._labels = tuple(labels)
        self._bounds = tuple(bounds)
        self._values: dict[Labels, _Distribution] = {}
        self._lock = threading.Lock()

    def record(self, value: float, *labels: str) -> None:
        """Adds a value to the distribution of these labels' values."""
        bucket = bisect_left(self._bounds, value)
        with self._lock:
            distribution = self._values.get(labels)
            if distribution is None:
                distribution = self._values[labels] = _Distribution([0] * (len(self._bounds) + 1))
            distribution.counts[bucket] += 1
            distribution.total += value

    def lines(self) -> Iterator[str]:
        """Prometheus' text."""
        with self._lock:
            values = sorted((labels, list(v.counts), v.total) for labels, v in self._values.items())
        if values:
            yield f"# TYPE {self._name} histogram"
        for labels, counts, total in values:
            pairs = _pairs(self._labels, labels)
            seen = 0
            for count, bound in zip(counts, (*(f"{bound:g}" for bound in self._bounds), "+Inf"), strict=True):
                seen += count
                yield f'{self._name}_bucket{{{pairs},le="{bound}"}} {seen}'
            yield f"{self._name}_sum{{{pairs}}} {total:g}"
            yield f"{self._name}_count{{{pairs}}} {seen}"


def _pairs(names: Labels, values: Labels) -> str:
    return ",".join(f'{name}="{_escaped(value)}"' for name, value in zip(names, values, strict=True))


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


@dataclass(frozen=True)
class Metrics:
    """What a model server counts. Times are in microseconds."""

    request_count: Counter = field(
        default_factory=lambda: Counter(":tensorflow:serving:request_count", ["model_name", "status"])
    )
    request_latency: Histogram = field(
        default_factory=lambda: Histogram(
            ":tensorflow:serving:request_latency", ["model_name", "API", "entrypoint"], _LATENCIES
        )
    )
    runtime_latency: Histogram = field(
        default_factory=lambda: Histogram(
            ":tensorflow:serving:runtime_latency", ["model_name", "API", "runtime"], _LATENCIES
        )
    )
    request_example_counts: Histogram = field(
        default_factory=lambda: Histogram(
            ":tensorflow:serving:request_example_counts", ["model"], _exponential(1, 2, 15)
        )
    )
    request_example_count_total: Counter = field(
        default_factory=lambda: Counter(":tensorflow:serving:request_example_count_total", ["model"])
    )
    queuing_latency: Histogram = field(
        default_factory=lambda: Histogram(
            ":tensorflow:serving:batching_session:queuing_latency", ["thread_pool_name"], _exponential(100, 1.2, 52)
        )
    )
    model_warmup_latency: Histogram = field(
        default_factory=lambda: Histogram(
            ":tensorflow:serving:model_warmup_latency", ["model_path", "status"], _LATENCIES
        )
    )
    load_attempt_count: Counter = field(
        default_factory=lambda: Counter(":tensorflow:cc:saved_model:load_attempt_count", ["model_path", "status"])
    )
    load_latency: Counter = field(
        default_factory=lambda: Counter(":tensorflow:cc:saved_model:load_latency", ["model_path"])
    )

    def text(self) -> bytes:
        """All of them in Prometheus' text form."""
        metrics = sorted(vars(self).values(), key=lambda metric: metric._name)
        return "".join(f"{line}\n" for metric in metrics for line in metric.lines()).encode()
