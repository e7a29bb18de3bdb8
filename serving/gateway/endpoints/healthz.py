"""`GET /healthz`: whether the process answers."""

from __future__ import annotations

from starlette.responses import Response

from adclick.serving.gateway.endpoints.endpoint import JSON, OpenEndpoint
from adclick.serving.gateway.gateway import Gateway


def answer(gateway: Gateway) -> Response:
    return Response(b'{"status":"ok"}', media_type=JSON)


ENDPOINT = OpenEndpoint("GET", "/healthz", summary="Whether the process answers", answer=answer)
