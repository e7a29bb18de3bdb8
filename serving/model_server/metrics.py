"""TensorFlow Serving's metrics, by its names, in Prometheus' text form.

TensorFlow's names begin with a colon and its counters do not end in `_total`, which Prometheus' own client library
writes otherwise; so the text is written here, as `prometheus_exporter.cc` writes it.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

Labels = tuple[str, ...]


def _exponential(scale: float, growth: float, count: int) -> tuple[float, ...]:
    """Upper bounds of `count` buckets, the last of which has none."""
    return tuple(scale * growth**power for power in range(count - 1))


#: Rows and bytes.
_SIZES = _exponential(1, 2, 14)
_BYTES = _exponential(1, 4, 14)
#: Microseconds from 10 to about 20 minutes, as TensorFlow Serving buckets latencies.
_LATENCIES = _exponential(10, 1.8, 33)


@dataclass
class _Distribution:
    counts: list[int]
    total: float = 0.0


class Counter:
    """A number for each combination of labels; one that only grows, unless it is a gauge.

    Attributes:
        name: TensorFlow's name, of which Prometheus' is made.
    """

    def __init__(self, name: str, labels: Sequence[str] = (), *, is_gauge: bool = False) -> None:
        self.name = name
        self._name = name.replace("/", ":")
        self._kind = "gauge" if is_gauge else "counter"
        self._labels = tuple(labels)
        self._values: dict[Labels, int] = {}
        self._lock = threading.Lock()

    def add(self, *labels: str, amount: int = 1) -> None:
        """Adds to the number of these labels' values."""
        with self._lock:
            self._values[labels] = self._values.get(labels, 0) + amount

    def set(self, value: int, *labels: str) -> None:
        """Makes it the number of these labels' values."""
        with self._lock:
            self._values[labels] = value

    def first(self) -> int:
        """The number of the first labels' values; 0 if there is none."""
        with self._lock:
            return self._values[min(self._values)] if self._values else 0

    def lines(self) -> Iterator[str]:
        """Prometheus' text."""
        with self._lock:
            values = sorted(self._values.items())
        yield f"# TYPE {self._name} {self._kind}"
        for labels, value in values:
            yield f"{self._name}{{{_pairs(self._labels, labels)}}} {value}"


class Histogram:
    """A distribution for each combination of labels.

    Attributes:
        name: TensorFlow's name, of which Prometheus' is made.
    """

    def __init__(self, name: str, labels: Sequence[str], bounds: Sequence[float]) -> None:
        self.name = name
        self._name = name.replace("/", ":")
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

    def first(self) -> int:
        """0: a distribution is no number."""
        return 0

    def lines(self) -> Iterator[str]:
        """Prometheus' text."""
        with self._lock:
            values = sorted((labels, list(v.counts), v.total) for labels, v in self._values.items())
        yield f"# TYPE {self._name} histogram"
        for labels, counts, total in values:
            pairs = _pairs(self._labels, labels)
            before = f"{pairs}," if pairs else ""
            seen = 0
            for count, bound in zip(counts, (*(f"{bound:g}" for bound in self._bounds), "+Inf"), strict=True):
                seen += count
                yield f'{self._name}_bucket{{{before}le="{bound}"}} {seen}'
            yield f"{self._name}_sum{{{pairs}}} {total:g}"
            yield f"{self._name}_count{{{pairs}}} {seen}"


def _pairs(names: Labels, values: Labels) -> str:
    return ",".join(f'{name}="{_escaped(value)}"' for name, value in zip(names, values, strict=True))


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


_SERVING = "/tensorflow/serving"
_BATCHING = f"{_SERVING}/batching_session"
_LOADING = "/tensorflow/cc/saved_model"
_CORE = "/tensorflow/core"


class Metrics:
    """What a model server counts, by TensorFlow Serving's names and then by TensorFlow's. Times are in microseconds."""

    def __init__(self) -> None:
        self.request_count = Counter(f"{_SERVING}/request_count", ["model_name", "status"])
        self.request_latency = Histogram(f"{_SERVING}/request_latency", ["model_name", "API", "entrypoint"], _LATENCIES)
        self.runtime_latency = Histogram(f"{_SERVING}/runtime_latency", ["model_name", "API", "runtime"], _LATENCIES)
        self.request_example_counts = Histogram(f"{_SERVING}/request_example_counts", ["model"], _exponential(1, 2, 15))
        self.request_example_count_total = Counter(f"{_SERVING}/request_example_count_total", ["model"])
        self.request_log_count = Counter(f"{_SERVING}/request_log_count", ["model_name", "status_code"])
        self.model_warmup_latency = Histogram(f"{_SERVING}/model_warmup_latency", ["model_path", "status"], _LATENCIES)
        self.model_warmup_records_read = Counter(f"{_SERVING}/model_warmup_records_read", ["model_path", "status"])
        self.mlmd_map = Counter(f"{_SERVING}/mlmd_map", ["model_name", "version"], is_gauge=True)
        self.queuing_latency = Histogram(
            f"{_BATCHING}/queuing_latency", ["thread_pool_name"], _exponential(100, 1.2, 52)
        )
        self.wrapped_run_count = Counter(f"{_BATCHING}/wrapped_run_count")
        self.padding_size = Histogram(f"{_BATCHING}/padding_size", ["execution_batch_size"], _SIZES)
        self.input_batch_size = Histogram(f"{_BATCHING}/input_batch_size", [], _SIZES)
        self.processed_batch_size = Histogram(f"{_BATCHING}/processed_batch_size", [], _SIZES)

        self.load_attempt_count = Counter(f"{_LOADING}/load_attempt_count", ["model_path", "status"])
        self.load_latency = Counter(f"{_LOADING}/load_latency", ["model_path"])
        self.load_latency_by_stage = Histogram(f"{_LOADING}/load_latency_by_stage", ["model_path", "stage"], _LATENCIES)
        self.graph_runs = Counter(f"{_CORE}/graph_runs")
        self.graph_run_time_usecs = Counter(f"{_CORE}/graph_run_time_usecs")
        self.graph_run_time_usecs_histogram = Histogram(
            f"{_CORE}/graph_run_time_usecs_histogram", [], _exponential(1000, 2, 20)
        )
        self.graph_run_input_tensor_bytes = Histogram(f"{_CORE}/graph_run_input_tensor_bytes", [], _BYTES)
        self.graph_run_output_tensor_bytes = Histogram(f"{_CORE}/graph_run_output_tensor_bytes", [], _BYTES)
        self.direct_session_runs = Counter(f"{_CORE}/direct_session_runs")
        self.session_created = Counter(f"{_CORE}/session_created", is_gauge=True)

    def record_run(self, seconds: float, input_bytes: int, output_bytes: int) -> None:
        """Counts a run of a graph."""
        microseconds = seconds * 1e6
        self.graph_runs.add()
        self.direct_session_runs.add()
        self.graph_run_time_usecs.add(amount=int(microseconds))
        self.graph_run_time_usecs_histogram.record(microseconds)
        self.graph_run_input_tensor_bytes.record(input_bytes)
        self.graph_run_output_tensor_bytes.record(output_bytes)

    def values(self, names: Iterable[str]) -> dict[str, int]:
        """Numbers by TensorFlow's names of them, each of its first labels; 0 for what is not counted."""
        firsts = {metric.name: metric.first for metric in vars(self).values()}
        return {name: firsts[name]() if name in firsts else 0 for name in names}

    def text(self) -> bytes:
        """All of them in Prometheus' text form."""
        metrics = sorted(vars(self).values(), key=lambda metric: str(metric.name))
        return "".join(f"{line}\n" for metric in metrics for line in metric.lines()).encode()
