"""`GET /docs`: the API's document as a page for people."""

from __future__ import annotations

from starlette.responses import Response

from adclick.serving.gateway.endpoints.endpoint import OpenEndpoint
from adclick.serving.gateway.endpoints.openapi import document
from adclick.serving.gateway.gateway import Gateway
from adclick.serving.gateway.openapi import documentation_page


def answer(gateway: Gateway) -> Response:
    return Response(documentation_page(document(gateway)), media_type="text/html")


ENDPOINT = OpenEndpoint("GET", "/docs", summary=None, answer=answer)
