"""The gateway's endpoints, a module each. A new one is a module here and its line in `ENDPOINTS`."""

from __future__ import annotations

from adclick.serving.gateway.endpoints import (
    edge_devices,
    edge_reports,
    explain,
    fields,
    healthz,
    metrics,
    openapi,
    readyz,
    score,
    score_batch,
    version,
)
from adclick.serving.gateway.endpoints.endpoint import Endpoint

ENDPOINTS: tuple[Endpoint, ...] = (
    score.ENDPOINT,
    score_batch.ENDPOINT,
    explain.ENDPOINT,
    fields.ENDPOINT,
    healthz.ENDPOINT,
    readyz.ENDPOINT,
    version.ENDPOINT,
    edge_reports.ENDPOINT,
    edge_devices.ENDPOINT,
    metrics.ENDPOINT,
    openapi.ENDPOINT,
)
