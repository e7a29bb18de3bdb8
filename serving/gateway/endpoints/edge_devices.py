"""`GET /v1/edge/devices`: the devices that report here, and how they fare."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Any

from msgspec import Meta, Struct

from adclick.serving.gateway.endpoints.endpoint import ApiEndpoint
from adclick.serving.gateway.errors import GatewayError
from adclick.serving.gateway.exchange import Exchange
from adclick.serving.gateway.gateway import Gateway


class Devices(Struct):
    devices: Annotated[dict[str, dict[str, Any]], Meta(description="By name, what its reports add up to.")]


async def answer(gateway: Gateway, exchange: Exchange) -> Devices:
    if gateway.devices is None:
        raise GatewayError(
            HTTPStatus.NOT_IMPLEMENTED, "no_device_reports", "This gateway keeps none: set edge.reports_file"
        )
    return Devices({name: state.to_json() for name, state in gateway.devices.states().items()})


ENDPOINT = ApiEndpoint(
    "GET",
    "/v1/edge/devices",
    name="edge_devices",
    summary="The devices that report here, and how they fare",
    answer=answer,
    answers_with=Devices,
)
