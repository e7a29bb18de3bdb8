"""What stands between the transport and an endpoint, the outermost first: exchange, refusals, limits, authentication.

Each is an ASGI application around another, as Starlette's are.
"""

from __future__ import annotations

import logging
import re
import secrets
from http import HTTPStatus

import msgspec
from starlette.datastructures import Headers, QueryParams
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from adclick.serving.gateway.errors import GatewayError, overloaded
from adclick.serving.gateway.exchange import Exchange, begin, exchange_of
from adclick.serving.gateway.gateway import Gateway
from adclick.serving.gateway.security import authenticate, authenticate_device
from adclick.serving.gateway.sessions import Sessions, check_token

logger = logging.getLogger(__name__)

_REQUEST_ID = re.compile(r"[A-Za-z0-9_.:-]{1,128}")
_ANONYMOUS = "anonymous"
#: As proxies count a client that went away before its answer; it is sent to nobody.
_CLIENT_CLOSED_REQUEST = 499
_FAULT = GatewayError(HTTPStatus.INTERNAL_SERVER_ERROR, "internal", "The gateway is at fault; its log says more")


class ExchangeMiddleware:
    """Begins the exchange, under the snapshot of now, and notes the answer before it is sent."""

    def __init__(self, app: ASGIApp, gateway: Gateway, endpoint: str) -> None:
        self._app = app
        self._snapshots = gateway.snapshots
        self._telemetry = gateway.telemetry
        self._endpoint = endpoint

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(16)
        arguments = scope.get("path_params", {})
        query = scope.get("query_string", b"")
        exchange = Exchange(
            self._endpoint,
            request_id,
            self._snapshots.acquire(),
            arguments=arguments,
            route=QueryParams(query).get("route", "") if query else "",
            is_secure=scope.get("scheme") == "https",
        )
        begin(scope, exchange)

        async def send_noted(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"].append((b"x-request-id", request_id.encode()))
                self._telemetry.note_answer(exchange, scope, message["status"])
            await send(message)

        try:
            await self._app(scope, receive, send_noted)
        except ClientDisconnect:
            self._telemetry.note_answer(exchange, scope, _CLIENT_CLOSED_REQUEST)
        finally:
            self._snapshots.release(exchange.snapshot)


class RefusalMiddleware:
    """Turns what an application raises into an answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._app(scope, receive, send)
            return
        except ClientDisconnect:
            raise
        except GatewayError as error:
            refusal = error
        except Exception:
            logger.exception("request %s failed", exchange_of(scope).request_id)
            refusal = _FAULT
        headers = {}
        if refusal.retry_after_seconds is not None:
            headers["retry-after"] = str(refusal.retry_after_seconds)
        body = msgspec.json.encode(refusal.to_answer(exchange_of(scope).request_id))
        response = Response(body, int(refusal.status), headers, media_type="application/json")
        await response(scope, receive, send)


class InFlightMiddleware:
    """Refuses what is more than may be answered at the same time."""

    def __init__(self, app: ASGIApp, gateway: Gateway) -> None:
        self._app = app
        self._gateway = gateway

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._gateway.in_flight += 1
        try:
            if self._gateway.in_flight > exchange_of(scope).snapshot.settings.limits.in_flight:
                raise overloaded("Too many requests are being answered")
            await self._app(scope, receive, send)
        finally:
            self._gateway.in_flight -= 1


class AuthenticationMiddleware:
    """Finds out whose request it is; refuses those without a valid API key, where keys are asked for.

    The keys of devices open what devices ask for, and nothing else. A browser may come with a session of the console in
    place of an API key.
    """

    def __init__(self, app: ASGIApp, asks_for: str, sessions: Sessions | None) -> None:
        self._app = app
        self._sessions = sessions
        self._is_for_devices = asks_for == "device"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = exchange_of(scope)
        snapshot = exchange.snapshot
        headers = Headers(scope=scope)
        authorization = headers.get("authorization", "")
        if self._is_for_devices and snapshot.device_keys is not None:
            exchange.client = authenticate_device(snapshot.device_keys, authorization)
        elif not self._is_for_devices and snapshot.api_keys is not None:
            if not authorization and self._sessions is not None:
                exchange.session = self._sessions.of(headers, snapshot.api_keys)
            if exchange.session is not None:
                exchange.client = exchange.session.owner
                if scope["method"] not in ("GET", "HEAD"):
                    check_token(exchange.session, headers)
            else:
                exchange.client = authenticate(snapshot.api_keys, authorization)
        else:
            exchange.client = scope["client"][0] if scope.get("client") else _ANONYMOUS
        await self._app(scope, receive, send)


class RateMiddleware:
    """Refuses what is more than one client may ask."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = exchange_of(scope)
        exchange.snapshot.limiter.check(exchange.client)
        await self._app(scope, receive, send)


class BodyMiddleware:
    """Reads the body; refuses what is not declared as JSON, or too large."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = exchange_of(scope)
        limit = exchange.snapshot.settings.limits.body_bytes
        content_type = Headers(scope=scope).get("content-type", "application/json")
        if not content_type.startswith("application/json"):
            raise GatewayError(
                HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "not_json", f"Send application/json, not {content_type[:100]}"
            )
        chunks = []
        size = 0
        async for chunk in Request(scope, receive).stream():
            size += len(chunk)
            if size > limit:
                raise GatewayError(
                    HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "body_too_large", f"A body has at most {limit:,} bytes"
                )
            chunks.append(chunk)
        exchange.body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        await self._app(scope, receive, send)
