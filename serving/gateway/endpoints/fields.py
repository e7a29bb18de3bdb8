"""`GET /v1/fields`: what a request may hold, as the served model takes it."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from adclick.serving.gateway.endpoints.endpoint import ApiEndpoint
from adclick.serving.gateway.exchange import Exchange
from adclick.serving.gateway.gateway import Gateway


class FieldAnswer(Struct):
    name: str
    type: Annotated[str, Meta(description="string, float32 or int64, or `list of` one of them.")]
    required: bool
    default: Annotated[str, Meta(description="What stands for it where a request leaves it out.")]
    description: str


class FieldsModel(Struct):
    name: str
    version: int


class Fields(Struct):
    model: FieldsModel
    fields: list[FieldAnswer]


async def answer(gateway: Gateway, exchange: Exchange) -> Fields:
    model = await exchange.snapshot.first_model(exchange.route)
    return Fields(
        FieldsModel(exchange.snapshot.settings.backend.model_name, model.version),
        [
            FieldAnswer(
                field.name,
                f"list of {field.dtype}" if field.is_list else field.dtype,
                field.is_required,
                field.default,
                field.description,
            )
            for field in model.form.fields
        ],
    )


ENDPOINT = ApiEndpoint(
    "GET",
    "/v1/fields",
    name="fields",
    summary="The fields of a request, as the served model takes them",
    answer=answer,
    answers_with=Fields,
    takes_route=True,
)
