"""`/console/api/session`: signs in by API key, says who is signed in, and signs out.

Signing in is a request with the key in its `Authorization` header, as any of the API's.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta, Struct
from starlette.responses import Response

from adclick.serving.gateway.endpoints.endpoint import JSON, ApiEndpoint
from adclick.serving.gateway.exchange import Exchange
from adclick.serving.gateway.gateway import Gateway
from adclick.serving.gateway.sessions import COOKIE


class SessionAnswer(Struct):
    owner: Annotated[str, Meta(description="The API key's name, or the address where no keys are asked for.")]
    token: Annotated[str, Meta(description="For the header `X-CSRF-Token`; empty where no session is needed.")]
    ends: Annotated[float | None, Meta(description="In seconds since 1970; null where no session is needed.")]


async def answer(gateway: Gateway, exchange: Exchange) -> SessionAnswer:
    session = exchange.session
    if session is None:
        return SessionAnswer(exchange.client, "", None)
    return SessionAnswer(session.owner, session.token, session.ends)


async def answer_sign_in(gateway: Gateway, exchange: Exchange) -> Response | SessionAnswer:
    keys = exchange.snapshot.api_keys
    # A session makes no longer one, and where no keys are asked for there is nothing to sign.
    if exchange.session is not None or keys is None or gateway.sessions is None:
        return await answer(gateway, exchange)
    session = gateway.sessions.begin(exchange.client, keys[exchange.client])
    response = Response(msgspec.json.encode(SessionAnswer(session.owner, session.token, session.ends)), media_type=JSON)
    response.set_cookie(
        COOKIE,
        session.cookie,
        max_age=exchange.snapshot.settings.console.session_seconds,
        httponly=True,
        samesite="strict",
        secure=exchange.is_secure,
    )
    response.headers["cache-control"] = "no-store"
    return response


async def answer_sign_out(gateway: Gateway, exchange: Exchange) -> Response:
    response = Response(b"{}", media_type=JSON)
    response.delete_cookie(COOKIE, httponly=True, samesite="strict", secure=exchange.is_secure)
    return response


SESSION = ApiEndpoint(
    "GET",
    "/console/api/session",
    name="console_session",
    summary="Who is signed in",
    answer=answer,
    answers_with=SessionAnswer,
)
SIGN_IN = ApiEndpoint(
    "POST",
    "/console/api/session",
    name="console_sign_in",
    summary="Sign in by API key",
    answer=answer_sign_in,
    answers_with=SessionAnswer,
)
SIGN_OUT = ApiEndpoint(
    "POST",
    "/console/api/session/end",
    name="console_sign_out",
    summary="Sign out",
    answer=answer_sign_out,
    answers_with=None,
)
