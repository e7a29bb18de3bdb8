"""What the gateway counts, for Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


class GatewayMetrics:
    """The metrics of one gateway."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()

        def named(name: str) -> str:
            return f"adclick_gateway_{name}"

        registry = self.registry
        self.requests = Counter(named("requests"), "Requests.", ["endpoint", "status"], registry=registry)
        self.seconds = Histogram(
            named("request_seconds"), "Time to answer.", ["endpoint"], buckets=_SECONDS, registry=registry
        )
        self.ads = Counter(named("ads"), "Ads scored.", ["route", "model_version"], registry=registry)
        self.probability = Histogram(
            named("click_probability"),
            "Predicted click probabilities.",
            ["route", "model_version"],
            buckets=(0.001, 0.003, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.5),
            registry=registry,
        )
        self.creatives = Counter(named("creatives"), "Images by what came of them.", ["status"], registry=registry)
        self.embeddings = Counter(
            named("creative_embeddings"), "Embeddings by where they came from.", ["source"], registry=registry
        )
        self.cache_bytes = Gauge(named("creative_cache_bytes"), "Memory of remembered embeddings.", registry=registry)
        self.in_flight = Gauge(named("requests_in_flight"), "Requests being answered.", registry=registry)
        self.shadow = Counter(named("shadow_requests"), "Requests to the shadow.", ["outcome"], registry=registry)
        self.shadow_difference = Histogram(
            named("shadow_difference"),
            "Absolute difference between the shadow's probability and the answer's.",
            buckets=(1e-6, 1e-4, 1e-3, 0.003, 0.01, 0.03, 0.1, 0.3),
            registry=registry,
        )
        self.logged = Counter(named("logged_predictions"), "Predictions to be logged.", ["outcome"], registry=registry)
        self.reloads = Counter(named("config_reloads"), "Readings of a changed config.", ["outcome"], registry=registry)

    def text(self) -> bytes:
        """All of them in Prometheus' text form."""
        return generate_latest(self.registry)
