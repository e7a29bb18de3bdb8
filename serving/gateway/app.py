"""The gateway as a Starlette application: a route for each endpoint, behind its middleware."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from adclick.serving.console.api import CONSOLE_ENDPOINTS
from adclick.serving.console.pages import explorer_routes, page_routes
from adclick.serving.gateway.endpoints import ENDPOINTS
from adclick.serving.gateway.endpoints.endpoint import JSON, ApiEndpoint, Endpoint, OpenEndpoint
from adclick.serving.gateway.exchange import exchange_of
from adclick.serving.gateway.gateway import Gateway
from adclick.serving.gateway.middleware import (
    AuthenticationMiddleware,
    BodyMiddleware,
    ExchangeMiddleware,
    InFlightMiddleware,
    RateMiddleware,
    RefusalMiddleware,
)

_encode = msgspec.json.Encoder().encode


def create_app(gateway: Gateway) -> Starlette:
    """Builds the application."""

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with gateway.running():
            yield

    routes = [_route(gateway, endpoint) for endpoint in ENDPOINTS] + explorer_routes()
    if gateway.snapshots.current.settings.console.enabled:
        routes += [_route(gateway, endpoint) for endpoint in CONSOLE_ENDPOINTS] + page_routes()
    return Starlette(
        routes=routes,
        exception_handlers={HTTPException: _no_such_endpoint},
        lifespan=lifespan,
    )


def _route(gateway: Gateway, endpoint: Endpoint) -> Route:
    if isinstance(endpoint, OpenEndpoint):
        return Route(endpoint.path, _OpenAnswer(gateway, endpoint), methods=[endpoint.method])
    middleware = [
        Middleware(ExchangeMiddleware, gateway, endpoint.name),
        Middleware(RefusalMiddleware),
        Middleware(InFlightMiddleware, gateway),
        Middleware(AuthenticationMiddleware, endpoint.asks_for, gateway.sessions),
        Middleware(RateMiddleware),
    ]
    if endpoint.method == "POST":
        middleware.append(Middleware(BodyMiddleware))
    return Route(endpoint.path, _ApiAnswer(gateway, endpoint), methods=[endpoint.method], middleware=middleware)


class _ApiAnswer:
    """Sends what an endpoint of the API answers, as JSON where it is no response itself."""

    def __init__(self, gateway: Gateway, endpoint: ApiEndpoint) -> None:
        self._gateway = gateway
        self._answer = endpoint.answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = await self._answer(self._gateway, exchange_of(scope))
        response = answer if isinstance(answer, Response) else Response(_encode(answer), media_type=JSON)
        await response(scope, receive, send)


class _OpenAnswer:
    """Sends what an endpoint answers that anyone may ask."""

    def __init__(self, gateway: Gateway, endpoint: OpenEndpoint) -> None:
        self._gateway = gateway
        self._answer = endpoint.answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._answer(self._gateway)(scope, receive, send)


async def _no_such_endpoint(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return Response(_encode({"detail": error.detail}), error.status_code, error.headers, media_type=JSON)
