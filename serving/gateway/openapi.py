"""The gateway's OpenAPI document, made of its endpoints and their types."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus
from importlib import metadata
from typing import Any

import msgspec

from adclick.serving.gateway.endpoints.endpoint import JSON, ApiEndpoint, Endpoint
from adclick.serving.gateway.errors import Error
from adclick.serving.gateway.fields import RequestForm

_REFERENCE = "#/components/schemas/{name}"

_REFUSALS = {
    HTTPStatus.BAD_REQUEST: "The body is not JSON.",
    HTTPStatus.UNAUTHORIZED: "The API key is missing or unknown.",
    HTTPStatus.FORBIDDEN: "An image's address is not allowed.",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "The body, or an image, is too large.",
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: "The body is not declared as JSON.",
    HTTPStatus.UNPROCESSABLE_ENTITY: "A field is unknown, missing or of the wrong type; `field` names it.",
    HTTPStatus.TOO_MANY_REQUESTS: "Too many requests of one client; `Retry-After` says when to try again.",
    HTTPStatus.BAD_GATEWAY: "The model failed, or gave no probability.",
    HTTPStatus.SERVICE_UNAVAILABLE: (
        "No model is loaded, or too many requests are being answered; `Retry-After` says when to try again."
    ),
    HTTPStatus.GATEWAY_TIMEOUT: "The answer would come too late.",
}
_ROUTE = {
    "name": "route",
    "in": "query",
    "required": False,
    "schema": {"type": "string"},
    "description": "For trying: asks the route of this name, or `shadow`, whoever the user is. What is so asked is "
    "neither logged as a prediction nor shadowed.",
}
_INTRODUCTION = (
    "Will this user click this ad? Send what is known of the user and the page once (`context`) and up to {ads} ads; "
    "get a calibrated click probability for each, ranked. The fields are those of the model that is served now, and "
    "change with it; `GET /v1/fields` lists them. A value that the model has not seen is fine."
)


def openapi_document(endpoints: Sequence[Endpoint], form: RequestForm | None, most_ads: int) -> dict[str, Any]:
    """The document: paths of the endpoints, and schemas of the types that check their requests and hold their answers.

    Args:
        endpoints: The endpoints.
        form: The form of requests for the model that is served; None while there is none.
        most_ads: How many ads a context may have.
    """
    shown = [endpoint for endpoint in endpoints if endpoint.summary is not None]
    api = [endpoint for endpoint in shown if isinstance(endpoint, ApiEndpoint)]
    references, schemas = msgspec.json.schema_components(
        [Error, *(endpoint.answers_with for endpoint in api)], ref_template=_REFERENCE
    )
    error, *answers = references
    answer_of = dict(zip([endpoint.name for endpoint in api], answers, strict=True))
    request_of: dict[str, Any] = {}
    if form is not None:
        with_body = {
            endpoint.name: endpoint.request_type(form) for endpoint in api if endpoint.request_type is not None
        }
        requests, components = form.json_schemas(list(with_body.values()), _REFERENCE)
        request_of = dict(zip(with_body, requests, strict=True))
        schemas |= components
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in shown:
        if isinstance(endpoint, ApiEndpoint):
            operation = _operation(endpoint, form, request_of.get(endpoint.name), answer_of[endpoint.name], error)
        else:
            operation = {
                "summary": endpoint.summary,
                "responses": {"200": {"description": "Answered."}},
                "security": [],
            }
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "adclick",
            "version": metadata.version("adclick"),
            "description": _INTRODUCTION.format(ads=most_ads),
        },
        "components": {
            "schemas": schemas,
            "securitySchemes": {"apiKey": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"apiKey": []}],
        "paths": paths,
    }


def _operation(
    endpoint: ApiEndpoint, form: RequestForm | None, request: Any, answer: Any, error: Any
) -> dict[str, Any]:
    operation: dict[str, Any] = {"summary": endpoint.summary}
    if endpoint.takes_route:
        operation["parameters"] = [_ROUTE]
    responses = {"200": {"description": "Answered.", "content": {JSON: {"schema": answer}}}}
    if endpoint.request_type is not None:
        content: dict[str, Any] = {"schema": request or {"type": "object"}}
        if endpoint.has_example and form is not None:
            content["example"] = _example(form)
        operation["requestBody"] = {"required": True, "content": {JSON: content}}
        for status, text in {**_REFUSALS, **endpoint.refusals}.items():
            responses[str(int(status))] = {"description": text, "content": {JSON: {"schema": error}}}
    return {**operation, "responses": responses}


def _example(form: RequestForm) -> Any:
    values = {"string": "text", "float32": 1.0, "int64": 1}
    context = {
        field.name: [values[field.dtype]] if field.is_list else values[field.dtype]
        for field in form.fields
        if not field.is_image and not field.is_timestamp and not field.is_identifier
    }
    ad: dict[str, Any] = {field.name: "a22636518735ed1e89a01e6df73bb809" for field in form.fields if field.is_image}
    moved = [name for name in context if name.startswith("ad_")]
    return {
        "context": {name: context[name] for name in context if name not in moved},
        "ads": [{**{name: context[name] for name in moved}, **ad}],
    }
