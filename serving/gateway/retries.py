"""Asking a model server once more after it went away, as it does in every roll-out; but never a storm of it."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

from adclick.serving.errors import Code, ServingError

Result = TypeVar("Result")

#: A retry costs a token, and each request earns a fifth of one: the server sees at most a fifth more than it is asked.
_EARNED, _MOST = 0.2, 100.0
#: What gRPC says in its other codes of a connection that broke; what a model says is none of it.
_BROKEN = ("RST_STREAM", "Stream removed", "GOAWAY", "Socket closed", "Connection reset", "transport")

ANSWERED, FAILED, REFUSED = "answered", "failed", "refused"


class ServerGone(ServingError):
    """The server went away before it answered, so that another, or the next, may be asked the same."""


def is_gone(code: Code, details: str) -> bool:
    """Whether a failure over gRPC says that the server went, rather than something about the request."""
    if code in (Code.UNAVAILABLE, Code.CANCELLED):
        return True
    return code in (Code.UNKNOWN, Code.INTERNAL) and any(words in details for words in _BROKEN)


class Retries:
    """The budget for asking again, and what came of it: answered, failed, or refused because the budget was spent."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tokens = _MOST
        self._counts: Counter[str] = Counter()

    @property
    def counts(self) -> Mapping[str, int]:
        """Retries by what came of them."""
        with self._lock:
            return dict(self._counts)

    async def once_more(self, ask: Callable[[bool], Awaitable[Result]], has_time: Callable[[], bool]) -> Result:
        """Asks, and asks once more if the server went away, there is time and the budget is not spent.

        Args:
            ask: Is told whether it asks again, which it does by another connection.
            has_time: Whether another answer can be in time.

        Raises:
            ServingError: What the last asking raised.
        """
        with self._lock:
            self._tokens = min(_MOST, self._tokens + _EARNED)
        try:
            return await ask(False)
        except ServerGone:
            if not has_time():
                raise
            if not self._spend():
                self._count(REFUSED)
                raise
        try:
            answer = await ask(True)
        except ServingError:
            self._count(FAILED)
            raise
        self._count(ANSWERED)
        return answer

    def _spend(self) -> bool:
        with self._lock:
            if self._tokens < 1:
                return False
            self._tokens -= 1
            return True

    def _count(self, outcome: str) -> None:
        with self._lock:
            self._counts[outcome] += 1
