"""What the gateway counts, for Prometheus."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from adclick.serving.gateway.retries import ANSWERED, FAILED, REFUSED

_SECONDS = (0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


class _TakenOver:
    """A counter of one label whose counts are kept elsewhere, and only ever grow."""

    def __init__(self, counter: Counter, values: Sequence[str]) -> None:
        self._counter = counter
        self._counts = dict.fromkeys(values, 0)

    def set(self, counts: Mapping[str, int]) -> None:
        """Takes over the counts of now, by the label's value."""
        for value, count in counts.items():
            self._counter.labels(value).inc(count - self._counts[value])
            self._counts[value] = count


class GatewayMetrics:
    """The metrics of one gateway."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()

        def named(name: str) -> str:
            return f"adclick_gateway_{name}"

        registry = self.registry
        self._requests = Counter(named("requests"), "Requests.", ["endpoint", "status"], registry=registry)
        self._seconds = Histogram(
            named("request_seconds"), "Time to answer.", ["endpoint"], buckets=_SECONDS, registry=registry
        )
        self._ads = Counter(named("ads"), "Ads scored.", ["route", "model_version"], registry=registry)
        self._probability = Histogram(
            named("click_probability"),
            "Predicted click probabilities.",
            ["route", "model_version"],
            buckets=(0.001, 0.003, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.5),
            registry=registry,
        )
        self._creatives = Counter(named("creatives"), "Images by what came of them.", ["status"], registry=registry)
        self._embeddings = Counter(
            named("creative_embeddings"), "Embeddings by where they came from.", ["source"], registry=registry
        )
        self._embedded = _TakenOver(self._embeddings, ("cache", "model"))
        self.cache_bytes = Gauge(named("creative_cache_bytes"), "Memory of remembered embeddings.", registry=registry)
        self.in_flight = Gauge(named("requests_in_flight"), "Requests being answered.", registry=registry)
        self.no_probability = Counter(
            named("no_probability"),
            "Answers of a model that held no click probability: NaN, an infinity, or a number outside [0, 1].",
            ["model_version"],
            registry=registry,
        )
        self._retries = Counter(
            named("model_server_retries"),
            "Requests to a model server that went away, made once more; refused: the budget for it was spent.",
            ["outcome"],
            registry=registry,
        )
        self._retried = _TakenOver(self._retries, (ANSWERED, FAILED, REFUSED))
        self.shadow = Counter(named("shadow_requests"), "Requests to the shadow.", ["outcome"], registry=registry)
        self.shadow_difference = Histogram(
            named("shadow_difference"),
            "Absolute difference between the shadow's probability and the answer's.",
            buckets=(1e-6, 1e-4, 1e-3, 0.003, 0.01, 0.03, 0.1, 0.3),
            registry=registry,
        )
        self.logged = Counter(named("logged_predictions"), "Predictions to be logged.", ["outcome"], registry=registry)
        self.reloads = Counter(named("config_reloads"), "Readings of a changed config.", ["outcome"], registry=registry)
        # A series that first appears at 1 shows Prometheus no increase: these begin at 0.
        for counter, outcomes in (
            (self._retries, (ANSWERED, FAILED, REFUSED)),
            (self.shadow, ("answered", "failed", "dropped")),
            (self.logged, ("written", "failed", "dropped")),
            (self.reloads, ("taken", "refused")),
        ):
            for outcome in outcomes:
                counter.labels(outcome)

        # A label's child is looked up once: the library's own look-up costs as much as the counting.
        self._children = lru_cache(maxsize=1024)(lambda metric, *labels: metric.labels(*labels))

    def count_request(self, endpoint: str, status: int, seconds: float) -> None:
        """Counts an answered request."""
        self._children(self._requests, endpoint, str(status)).inc()
        self._children(self._seconds, endpoint).observe(seconds)

    def count_ads(self, route: str, version: int, probabilities: npt.NDArray[np.float32]) -> None:
        """Counts the scored ads of a context."""
        self._children(self._ads, route, str(version)).inc(len(probabilities))
        observe = self._children(self._probability, route, str(version)).observe
        for probability in probabilities.tolist():
            observe(probability)

    def count_creatives(self, statuses: Sequence[str]) -> None:
        """Counts images by what came of them."""
        for status in set(statuses):
            self._children(self._creatives, status).inc(statuses.count(status))

    def set_embeddings(self, from_cache: int, from_model: int) -> None:
        """Takes over how many embeddings there have been from each source."""
        self._embedded.set({"cache": from_cache, "model": from_model})

    def set_retries(self, counts: Mapping[str, int]) -> None:
        """Takes over how often a model server was asked once more."""
        self._retried.set(counts)

    def text(self) -> bytes:
        """All of them in Prometheus' text form."""
        return generate_latest(self.registry)
