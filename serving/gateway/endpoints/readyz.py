"""`GET /readyz`: whether every answering route has a model, and what is wrong."""

from __future__ import annotations

from typing import Any

import orjson
from starlette.responses import Response

from adclick.serving.gateway.endpoints.endpoint import JSON, OpenEndpoint
from adclick.serving.gateway.gateway import Gateway


def answer(gateway: Gateway) -> Response:
    router, models = gateway.snapshots.current.router, gateway.snapshots.current.models
    missing = {
        target.name: models.faults.get(target, "not looked for yet")
        for target in router.targets
        if target is not router.shadow and models.current(target) is None
    }
    document: dict[str, Any] = {"ready": not missing}
    if missing:
        document["no_model"] = missing
    if problems := models.problems:
        document["versions"] = problems
    if gateway.reloader.error:
        document["config_error"] = gateway.reloader.error
    return Response(orjson.dumps(document), 503 if missing else 200, media_type=JSON)


ENDPOINT = OpenEndpoint("GET", "/readyz", summary="Whether a model is loaded: 200 or 503", answer=answer)
