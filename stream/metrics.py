"""What the stages of the stream count, for Prometheus."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0)
_PROBABILITIES = (0.001, 0.01, 0.05, 0.1, 0.2, 0.5, 0.8, 0.9, 0.95, 0.99, 0.999)


class StreamMetrics:
    """The metrics of one process of the stream."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        registry = self.registry

        def named(name: str) -> str:
            return f"adclick_stream_{name}"

        self._events = Counter(
            named("events"), "Events that were consumed, by what came of them.", ["kind", "outcome"], registry=registry
        )
        self.delay = Histogram(
            named("delay_seconds"),
            "From the time of a click until its judgement is committed.",
            buckets=_SECONDS,
            registry=registry,
        )
        self._scored = Counter(named("scored_clicks"), "Clicks judged.", ["model_version"], registry=registry)
        self._suspicious = Counter(
            named("suspicious_clicks"), "Clicks at or above the threshold.", ["model_version"], registry=registry
        )
        self._probability = Histogram(
            named("fraud_probability"),
            "Predicted fraud probabilities.",
            ["model_version"],
            buckets=_PROBABILITIES,
            registry=registry,
        )
        self._no_probability = Counter(
            named("no_probability"),
            "Answers of a model that held no probability: NaN, an infinity, or a number outside [0, 1].",
            ["model_version"],
            registry=registry,
        )
        self.scoring = Histogram(
            named("scoring_seconds"), "Time to score a batch.", buckets=_SECONDS, registry=registry
        )
        self._transactions = Counter(
            named("transactions"), "Kafka transactions by how they ended.", ["outcome"], registry=registry
        )
        self.commit = Histogram(
            named("commit_seconds"), "Time to commit a transaction.", buckets=_SECONDS, registry=registry
        )
        self.last_commit = Gauge(
            named("last_commit_timestamp_seconds"), "When a transaction was last committed.", registry=registry
        )
        self.waiting = Gauge(
            named("waiting_events"), "Events that wait for others to pass before them.", registry=registry
        )
        self.lag = Gauge(
            named("lag_events"), "Messages of a topic that are not consumed yet.", ["topic"], registry=registry
        )
        self._alerts = Counter(named("alerts"), "Revisions of alerts.", ["state"], registry=registry)
        self.open_alerts = Gauge(named("open_alerts"), "Alerts that are open.", registry=registry)
        self._deliveries = Counter(
            named("deliveries"),
            "Alerts by receiver and whether they got there.",
            ["receiver", "outcome"],
            registry=registry,
        )
        self.model_version = Gauge(named("model_version"), "The version that judges.", registry=registry)
        # A series that first appears at 1 shows Prometheus no increase: these begin at 0.
        for kind in ("impressions", "clicks"):
            for outcome in ("processed", "late", "rejected"):
                self._events.labels(kind, outcome)
        for outcome in ("committed", "aborted"):
            self._transactions.labels(outcome)
        for state in ("open", "closed"):
            self._alerts.labels(state)

    def count_events(self, kind: str, outcome: str, count: int = 1) -> None:
        """Counts events: processed, late or rejected."""
        if count:
            self._events.labels(kind, outcome).inc(count)

    def count_scores(self, version: int, probabilities: npt.NDArray[np.float32], suspicious: int) -> None:
        """Counts judged clicks; `probabilities` are those that are ones, of all `suspicious` are at the threshold."""
        label = str(version)
        self._scored.labels(label).inc(len(probabilities))
        self._suspicious.labels(label).inc(suspicious)
        self.model_version.set(version)
        # As observe() for each, at a hundredth of its cost.
        histogram = self._probability.labels(label)
        for bucket, count in zip(
            histogram._buckets, np.histogram(probabilities, (-np.inf, *_above(_PROBABILITIES), np.inf))[0], strict=True
        ):
            bucket.inc(int(count))
        histogram._sum.inc(float(probabilities.sum(dtype=np.float64)))

    def count_no_probability(self, version: int, count: int) -> None:
        """Counts answers that held no probability."""
        self._no_probability.labels(str(version)).inc(count)

    def count_alert(self, state: str) -> None:
        """Counts a revision of an alert."""
        self._alerts.labels(state).inc()

    def count_transaction(self, outcome: str) -> None:
        """Counts a transaction: committed or aborted."""
        self._transactions.labels(outcome).inc()
        if outcome == "committed":
            self.last_commit.set_to_current_time()

    def expect_receiver(self, receiver: str) -> None:
        """Lets the counts of a receiver of alerts begin at 0."""
        for outcome in ("delivered", "failed"):
            self._deliveries.labels(receiver, outcome)

    def count_delivery(self, receiver: str, outcome: str) -> None:
        """Counts an alert that was delivered, or given up (failed)."""
        self._deliveries.labels(receiver, outcome).inc()

    def value(self, name: str, **labels: str) -> float:
        """A sample's value, 0 if there is none yet; for the live view."""
        return self.registry.get_sample_value(f"adclick_stream_{name}", labels or None) or 0.0

    def text(self) -> bytes:
        """All of them in Prometheus' text form."""
        return generate_latest(self.registry)


def _above(bounds: Sequence[float]) -> list[float]:
    """Bounds that lie just above: a bucket of Prometheus' holds its upper bound, one of numpy's its lower."""
    return [float(np.nextafter(np.float32(bound), np.float32(2))) for bound in bounds]
