"""What is known of a request while it is answered."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from starlette.types import Scope

from adclick.serving.gateway.sessions import Session
from adclick.serving.gateway.snapshot import Snapshot

_KEY = "adclick.exchange"


@dataclass
class Exchange:
    """A request, as far as it has come.

    Attributes:
        endpoint: The endpoint's name.
        request_id: The header `X-Request-Id`, or a number that was drawn.
        snapshot: What answers it.
        started: When it came, by `time.monotonic()`.
        arguments: The parts of the address that the endpoint's path names.
        route: The route that it asks for by name (`?route=`); empty where its user decides.
        is_secure: Whether it came by TLS.
        body: What was sent.
        client: Whose it is: the API key's owner, or the address.
        session: The console's session that it came with; None if it came with a key.
        user: The person whom it is about; empty where it names none.
        ads: How many ads were scored.
        versions: The versions that answered.
        routes: The routes that led to them.
    """

    endpoint: str
    request_id: str
    snapshot: Snapshot
    started: float = field(default_factory=time.monotonic)
    arguments: Mapping[str, str] = field(default_factory=dict)
    route: str = ""
    is_secure: bool = False
    body: bytes = b""
    client: str = ""
    session: Session | None = None
    user: str = ""
    ads: int = 0
    versions: set[int] = field(default_factory=set)
    routes: set[str] = field(default_factory=set)


def begin(scope: Scope, exchange: Exchange) -> None:
    """Puts an exchange where `exchange_of` finds it."""
    scope[_KEY] = exchange


def exchange_of(scope: Scope) -> Exchange:
    """The exchange of a request."""
    exchange: Exchange = scope[_KEY]
    return exchange
