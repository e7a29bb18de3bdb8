"""What an endpoint is: an address, what answers there, and what the API's document says of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct
from starlette.responses import Response

from adclick.serving.gateway.exchange import Exchange
from adclick.serving.gateway.fields import RequestForm
from adclick.serving.gateway.gateway import Gateway

JSON = "application/json"

Method = Literal["GET", "POST"]
RequestId = Annotated[str, Meta(description="The header `X-Request-Id`, or one that was made.")]


class ModelAnswer(Struct):
    name: str
    version: Annotated[int, Meta(description="The version that answered.")]
    route: Annotated[str, Meta(description="The route that led to it.")]


@dataclass(frozen=True)
class ApiEndpoint:
    """An endpoint of the API: by API key where keys are asked for, within the limits, logged and counted.

    Attributes:
        method: The HTTP method; the body of a POST is read before `answer` is called.
        path: The address.
        name: Its name in metrics, one of its own.
        summary: What it does, in the API's document.
        answer: Answers a request, or raises `GatewayError`.
        answers_with: The type of the answer, which is sent as JSON; None where the answer is a response itself.
        request_type: The type that a form checks requests by; None where there is no body.
        has_example: Whether the document shows a request.
        takes_route: Whether `?route=` asks a route by name, whoever the user is.
        refusals: What it refuses besides what every endpoint does.
        asks_for: Whose keys it takes: those of the API's users, or those of devices.
    """

    method: Method
    path: str
    name: str
    summary: str
    answer: Callable[[Gateway, Exchange], Awaitable[Struct | Response]]
    answers_with: type[Struct] | None
    request_type: Callable[[RequestForm], Any] | None = None
    has_example: bool = False
    takes_route: bool = False
    refusals: Mapping[HTTPStatus, str] = field(default_factory=dict)
    asks_for: Literal["api", "device"] = "api"


@dataclass(frozen=True)
class OpenEndpoint:
    """An endpoint that anyone who reaches the gateway may ask, such as a probe.

    Attributes:
        method: The HTTP method.
        path: The address.
        summary: What it does, in the API's document; None if it does not stand there.
        answer: Answers a request.
    """

    method: Method
    path: str
    summary: str | None
    answer: Callable[[Gateway], Response]


Endpoint = ApiEndpoint | OpenEndpoint
