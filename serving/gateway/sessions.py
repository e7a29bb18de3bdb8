"""Sessions of the console: a signed cookie in place of an API key, so that a browser need not keep the key.

A cookie holds the key's owner, when it ends, and a signature over both and the key's hash: a key that is taken away or
replaced ends its sessions. Nothing of a session is kept here.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus

from starlette.datastructures import Headers
from starlette.requests import cookie_parser

from adclick.serving.gateway.errors import GatewayError

COOKIE = "adclick_session"
TOKEN_HEADER = "x-csrf-token"


@dataclass(frozen=True)
class Session:
    """Who has signed in.

    Attributes:
        owner: The name of the API key.
        ends: When the session ends, in seconds since 1970.
        cookie: The cookie's value.
        token: What each request that is no GET must repeat in the header `X-CSRF-Token`.
    """

    owner: str
    ends: int
    cookie: str
    token: str


class Sessions:
    """Makes sessions and reads them.

    Args:
        secret: What cookies are signed with.
        seconds: How long a session lasts.
    """

    def __init__(self, secret: bytes, seconds: int) -> None:
        self._secret = secret
        self._seconds = seconds

    def begin(self, owner: str, digest: str) -> Session:
        """A new session of the owner of an API key, of whose hash `digest` is."""
        ends = int(time.time()) + self._seconds
        return self._session(owner, ends, self._signature(owner, ends, digest))

    def of(self, headers: Headers, api_keys: Mapping[str, str]) -> Session | None:
        """The session of a request; None if it has none, or one that has ended or is not ours."""
        cookie = cookie_parser(headers.get("cookie", "")).get(COOKIE, "")
        owner, _, rest = cookie.rpartition("~")[0].rpartition("~")
        signature = cookie.rpartition("~")[2]
        if owner not in api_keys or not (rest.isascii() and rest.isdigit()) or len(rest) > 12:
            return None
        ends = int(rest)
        expected = self._signature(owner, ends, api_keys[owner])
        if not hmac.compare_digest(signature.encode(), expected.encode()) or ends <= time.time():
            return None
        return self._session(owner, ends, signature)

    def _session(self, owner: str, ends: int, signature: str) -> Session:
        cookie = f"{owner}~{ends}~{signature}"
        return Session(owner, ends, cookie, self._digest(f"token {cookie}"))

    def _signature(self, owner: str, ends: int, digest: str) -> str:
        return self._digest(f"session {owner} {ends} {digest}")

    def _digest(self, text: str) -> str:
        return hmac.new(self._secret, text.encode(), hashlib.sha256).hexdigest()


def check_token(session: Session, headers: Headers) -> None:
    """Refuses what another site may have had the browser send.

    Raises:
        GatewayError: The header `X-CSRF-Token` is not the session's.
    """
    if not hmac.compare_digest(headers.get(TOKEN_HEADER, "").encode(), session.token.encode()):
        raise GatewayError(
            HTTPStatus.FORBIDDEN,
            "no_token",
            "Repeat the session's token in the header `X-CSRF-Token`; GET /console/api/session tells it",
        )
