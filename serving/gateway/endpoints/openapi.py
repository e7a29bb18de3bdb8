"""`GET /openapi.json`: the API's document, with the fields of the model that is served now."""

from __future__ import annotations

from typing import Any

import orjson
from starlette.responses import Response

from adclick.serving.gateway.endpoints.endpoint import JSON, OpenEndpoint
from adclick.serving.gateway.gateway import Gateway
from adclick.serving.gateway.openapi import openapi_document


def document(gateway: Gateway) -> dict[str, Any]:
    """The document of now; without the fields while no model is loaded."""
    # The list holds this endpoint, too.
    from adclick.serving.gateway.endpoints import ENDPOINTS

    snapshot = gateway.snapshots.current
    model = snapshot.models.current(snapshot.router.targets[0])
    return openapi_document(ENDPOINTS, model.form if model is not None else None, snapshot.settings.limits.ads)


def answer(gateway: Gateway) -> Response:
    return Response(orjson.dumps(document(gateway)), media_type=JSON)


ENDPOINT = OpenEndpoint("GET", "/openapi.json", summary=None, answer=answer)
