"""`GET /console/api/form`: what the console makes a form of: the fields of a request, and values that are known."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from adclick.serving.gateway.endpoints.endpoint import ApiEndpoint, ModelAnswer
from adclick.serving.gateway.exchange import Exchange
from adclick.serving.gateway.fields import Field
from adclick.serving.gateway.gateway import Gateway
from adclick.serving.gateway.held_out import Nothing
from adclick.serving.gateway.snapshot import Snapshot

_MOST_VALUES = 1_000
_MOST_EXAMPLES = 20


class FormField(Struct):
    name: str
    dtype: Annotated[str, Meta(description="string, float32 or int64.")]
    is_list: bool
    kind: Literal["column", "time", "image", "identifier"]
    required: bool
    default: str
    description: str
    known_values: Annotated[list[str], Meta(description="Texts of last month's impressions, the most frequent first.")]
    left_out_values: Annotated[int, Meta(description="How many more there were.")]


class FormRoute(Struct):
    name: str
    label: str | None
    version: Annotated[int | None, Meta(description="The version that it stands for now; null if there is none.")]
    percent: Annotated[float, Meta(description="The share of users, of a shadow that of requests.")]
    is_shadow: bool


class Form(Struct):
    model: ModelAnswer
    fields: list[FormField]
    examples: Annotated[list[dict[str, Any]], Meta(description="Some of last month's impressions.")]
    audience_rows: int
    span: Annotated[int | None, Meta(description="Their month, such as 202610.")]
    reason: Annotated[str, Meta(description="Why no values are known; empty if they are.")]
    routes: Annotated[list[FormRoute], Meta(description="Which may be asked by `?route=`; the shadow comes last.")]


async def answer(gateway: Gateway, exchange: Exchange) -> Form:
    snapshot = exchange.snapshot
    target = snapshot.first_target(exchange.route)
    model = await snapshot.models.get(target)
    judged = await gateway.held_out.of(model)
    rows = [] if isinstance(judged, Nothing) else judged.held_out.audience
    return Form(
        ModelAnswer(snapshot.settings.backend.model_name, model.version, target.name),
        [_field(field, rows) for field in model.form.fields],
        [dict(row) for row in rows[:_MOST_EXAMPLES]],
        len(rows),
        None if isinstance(judged, Nothing) else judged.held_out.span,
        judged.reason if isinstance(judged, Nothing) else "",
        _routes(snapshot),
    )


def _routes(snapshot: Snapshot) -> list[FormRoute]:
    routing = snapshot.settings.routing
    percents = {route.name: route.percent for route in routing.routes}
    routes = []
    for target in snapshot.router.targets:
        model = snapshot.models.current(target)
        is_shadow = target == snapshot.router.shadow
        percent = routing.shadow.percent if is_shadow and routing.shadow is not None else percents.get(target.name, 100)
        version = None if model is None else model.version
        routes.append(FormRoute(target.name, target.label, version, percent, is_shadow))
    return routes


def _field(field: Field, rows: Iterable[Mapping[str, Any]]) -> FormField:
    values: list[str] = []
    if field.dtype == "string" and not (field.is_image or field.is_identifier):
        counts: Counter[str] = Counter()
        for row in rows:
            value = row.get(field.name)
            counts.update(value if isinstance(value, list) else [value] if value else [])
        values = [value for value, _ in counts.most_common()]
    kind: Literal["column", "time", "image", "identifier"] = "column"
    if field.is_image:
        kind = "image"
    elif field.is_timestamp:
        kind = "time"
    elif field.is_identifier:
        kind = "identifier"
    return FormField(
        field.name,
        field.dtype,
        field.is_list,
        kind,
        field.is_required,
        field.default,
        field.description,
        values[:_MOST_VALUES],
        max(0, len(values) - _MOST_VALUES),
    )


ENDPOINT = ApiEndpoint(
    "GET",
    "/console/api/form",
    name="console_form",
    summary="The fields of a request with values that are known",
    answer=answer,
    answers_with=Form,
    takes_route=True,
)
