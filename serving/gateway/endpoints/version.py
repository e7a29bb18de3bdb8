"""`GET /version`: versions of the gateway and of the models that it asks."""

from __future__ import annotations

from importlib import metadata
from typing import Annotated

from msgspec import UNSET, Meta, Struct, UnsetType

from adclick.serving.gateway.endpoints.endpoint import ApiEndpoint
from adclick.serving.gateway.exchange import Exchange
from adclick.serving.gateway.gateway import Gateway


class RouteVersion(Struct):
    version: Annotated[int | None, Meta(description="Null while there is none.")]
    error: Annotated[str | UnsetType, Meta(description="Why the last look for it failed.")] = UNSET


class Versions(Struct):
    adclick: Annotated[str, Meta(description="The gateway's.")]
    model: Annotated[str, Meta(description="The model's name.")]
    routes: Annotated[dict[str, RouteVersion], Meta(description="By route, the version that answers.")]


async def answer(gateway: Gateway, exchange: Exchange) -> Versions:
    models = exchange.snapshot.models
    routes = {}
    for target in exchange.snapshot.router.targets:
        model = models.current(target)
        version = model.version if model is not None else None
        routes[target.name] = RouteVersion(version, models.faults.get(target, UNSET))
    return Versions(metadata.version("adclick"), exchange.snapshot.settings.backend.model_name, routes)


ENDPOINT = ApiEndpoint(
    "GET",
    "/version",
    name="version",
    summary="Versions of the gateway and of the models that it asks",
    answer=answer,
    answers_with=Versions,
)
