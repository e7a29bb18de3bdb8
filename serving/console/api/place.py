"""`POST /console/api/place`: where a click probability lies among those of last month's impressions."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from adclick.models.held_out import place_among
from adclick.serving.gateway.body import decode_body
from adclick.serving.gateway.endpoints.endpoint import ApiEndpoint
from adclick.serving.gateway.errors import invalid
from adclick.serving.gateway.exchange import Exchange
from adclick.serving.gateway.gateway import Gateway
from adclick.serving.gateway.held_out import Nothing
from adclick.serving.gateway.served import ServedModel
from adclick.serving.gateway.snapshot import Snapshot


class PlaceRequest(Struct, forbid_unknown_fields=True):
    click_probability: Annotated[float, Meta(ge=0, le=1)]
    version: Annotated[int, Meta(description="The version that gave it.")]


class Place(Struct):
    version: int
    span: Annotated[int | None, Meta(description="The month, such as 202610.")]
    higher_than: Annotated[float | None, Meta(description="The share of last month's impressions; null if not known.")]
    reason: Annotated[str, Meta(description="Why it is not known; empty if it is.")]


_DECODER = msgspec.json.Decoder(PlaceRequest)


async def answer(gateway: Gateway, exchange: Exchange) -> Place:
    request = decode_body(exchange.body, _DECODER.decode)
    model = _model(exchange.snapshot, request.version)
    judged = await gateway.held_out.of(model)
    if isinstance(judged, Nothing):
        return Place(model.version, None, None, judged.reason)
    held_out = judged.held_out
    share = place_among(held_out.quantiles, request.click_probability)
    reason = "the version's predictions were not counted" if share is None else ""
    return Place(model.version, held_out.span, share, reason)


def _model(snapshot: Snapshot, version: int) -> ServedModel:
    for target in snapshot.router.targets:
        model = snapshot.models.current(target)
        if model is not None and model.version == version:
            return model
    raise invalid(f"version {version} is not served", "version")


ENDPOINT = ApiEndpoint(
    "POST",
    "/console/api/place",
    name="console_place",
    summary="The place of a click probability among those of last month's impressions",
    answer=answer,
    answers_with=Place,
)
