"""What features need of a store of state, and a store in memory."""

from __future__ import annotations

from bisect import bisect_right
from typing import Protocol


class StateStore(Protocol):
    """Bytes by key. What is put is read back at once; it is kept from the next commit on, all of it or nothing."""

    def get(self, key: bytes) -> bytes | None:
        """The newest value of a key, the pending one included; None where there is none."""

    def put(self, key: bytes, value: bytes) -> None:
        """Sets a value, pending until the next commit."""

    def delete(self, key: bytes) -> None:
        """Removes a key, pending until the next commit."""

    def scan(self, after: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        """The next committed keys behind `after` and their values, in the order of keys, at most `limit`."""

    def commit(self, position: bytes) -> None:
        """Keeps all that is pending, and with it where the reader of events stands."""

    def discard(self) -> None:
        """Forgets all that is pending."""

    def position(self) -> bytes | None:
        """What the last commit was given; None before the first."""

    def close(self) -> None:
        """Lets go of what the store holds; what is pending is lost."""


class MemoryState:
    """A store that lives as long as its process."""

    def __init__(self) -> None:
        self._values: dict[bytes, bytes] = {}
        self._pending: dict[bytes, bytes | None] = {}
        self._position: bytes | None = None
        self._round: list[bytes] = []
        self._reached: bytes | None = None

    def get(self, key: bytes) -> bytes | None:
        if key in self._pending:
            return self._pending[key]
        return self._values.get(key)

    def put(self, key: bytes, value: bytes) -> None:
        self._pending[key] = value

    def delete(self, key: bytes) -> None:
        self._pending[key] = None

    def scan(self, after: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        # Keys are sorted once a round; those that come during a round wait for the next.
        if after != self._reached:
            self._round = sorted(self._values)
        first = bisect_right(self._round, after)
        keys = self._round[first : first + limit]
        self._reached = keys[-1] if keys else None
        return [(key, self._values[key]) for key in keys if key in self._values]

    def commit(self, position: bytes) -> None:
        for key, value in self._pending.items():
            if value is None:
                self._values.pop(key, None)
            else:
                self._values[key] = value
        self._pending.clear()
        self._position = position

    def discard(self) -> None:
        self._pending.clear()

    def position(self) -> bytes | None:
        return self._position

    def close(self) -> None:
        self.discard()
