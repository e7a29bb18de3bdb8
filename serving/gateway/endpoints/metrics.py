"""`GET /metrics`: what the gateway counts, for Prometheus."""

from __future__ import annotations

from starlette.responses import Response

from adclick.serving.gateway.endpoints.endpoint import OpenEndpoint
from adclick.serving.gateway.gateway import Gateway


def answer(gateway: Gateway) -> Response:
    metrics, memory = gateway.metrics, gateway.snapshots.current.creatives.memory
    metrics.in_flight.set(gateway.in_flight)
    metrics.cache_bytes.set(memory.embedding_bytes)
    metrics.set_retries(gateway.backend.retries.counts)
    metrics.set_embeddings(memory.hits, memory.misses)
    return Response(metrics.text(), media_type="text/plain; version=0.0.4")


ENDPOINT = OpenEndpoint("GET", "/metrics", summary="Metrics in Prometheus' text form", answer=answer)
