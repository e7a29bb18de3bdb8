"""The embedded execution: every key's features, event by event, in one process."""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import Any

from adclick.schema.errors import ConfigError
from adclick.stream.events import Event
from adclick.stream.features.distinct import Distinct
from adclick.stream.features.feature import SECONDS_TO_CLICK
from adclick.stream.features.join import ImpressionJoin
from adclick.stream.features.key_state import features_by_key, key_bytes, last_touched, state_bytes, state_from_bytes
from adclick.stream.features.time_to_click import TimeToClick
from adclick.stream.settings import StreamSettings
from adclick.stream.state.store import StateStore

# Behind all keys of features, whose numbers are small.
_DECLARATION = b"\xff\xffdeclaration"
_JOIN = 0xFFFE
_KEYS_SWEPT_PER_EVENT = 2
_MOST_SWEPT = 20_000


class FeatureOperator:
    """Computes the features of clicks from the events until then; events come in the order of `EventOrder`.

    States that are in use are held in memory as objects and written to the store at each commit. Keys that were not
    touched for longer than their features look back are removed, a few for each event: what they would say is what a
    new key says.

    Attributes:
        saturated: By feature, how many clicks had more distinct values than are told apart.
        expired: How many keys were removed.
    """

    def __init__(self, settings: StreamSettings, state: StateStore, *, max_cached_keys: int = 100_000) -> None:
        """Goes on from what the store holds.

        Args:
            settings: The declared features.
            state: The store; the operator is its only user.
            max_cached_keys: How many states are held in memory at most between commits, for each key of features.

        Raises:
            ConfigError: The store holds the state of other features.
        """
        self._keys = features_by_key(settings.features)
        self._store = state
        self._max_cached = max_cached_keys
        self._cached: tuple[dict[Any, list[Any]], ...] = tuple({} for _ in self._keys)
        self._changed: tuple[set[Any], ...] = tuple(set() for _ in self._keys)
        self._join: ImpressionJoin | None = None
        if settings.joins_impressions:
            assert settings.impression_column is not None
            self._join = ImpressionJoin(settings.impression_column, settings.impression_window)
        self._impressions: dict[Any, list[Any]] = {}
        self._new_impressions: set[Any] = set()
        self._times_to_click = tuple(n for n, feature in settings.features.items() if isinstance(feature, TimeToClick))
        self._bounded = tuple(
            (n, float(f.max_distinct)) for n, f in settings.features.items() if isinstance(f, Distinct)
        )
        self._plan = {
            kind: tuple(
                (number, keyed, self._cached[number], self._changed[number])
                for number, keyed in enumerate(self._keys)
                if kind == "clicks" or keyed.reads(kind)
            )
            for kind in ("impressions", "clicks")
        }
        self._horizons = {number: keyed.horizon for number, keyed in enumerate(self._keys)}
        if self._join is not None:
            self._horizons[_JOIN] = self._join.horizon
        self._swept_to = b""
        self._since_sweep = 0
        self._last_time = 0
        self.saturated: Counter[str] = Counter()
        self.expired = 0
        self._fingerprint = _fingerprint(settings)
        found = state.get(_DECLARATION)
        if found is None:
            state.put(_DECLARATION, self._fingerprint)
        elif found != self._fingerprint:
            raise ConfigError(
                "the state on disk is of other features than the config declares",
                "Name another folder for the state, or delete it, and go through the history anew.",
            )

    def process(self, event: Event) -> dict[str, float] | None:
        """Takes an event in.

        Returns:
            A click's features by name, without those that are missing; None for an impression.
        """
        kind, time, fields = event.kind, event.time, event.fields
        features: dict[str, float] = {}
        self._last_time = time
        self._since_sweep += 1
        if self._join is not None:
            impression = self._join.key(kind, event.id, fields)
            if impression is not None:
                if kind == "impressions":
                    self._impressions[impression] = self._join.new_state(time)
                    self._new_impressions.add(impression)
                else:
                    known = self._impressions.get(impression)
                    if known is None:
                        stored = self._store.get(key_bytes(_JOIN, impression))
                        known = None if stored is None else state_from_bytes(stored)
                    if known is not None:
                        fields = self._join.joined(known, time, fields)
            for name in self._times_to_click:
                if SECONDS_TO_CLICK in fields:
                    features[name] = float(fields[SECONDS_TO_CLICK])
        for number, keyed, cached, changed in self._plan[kind]:
            key = keyed.key(fields)
            if key is None:
                continue
            state = cached.get(key)
            if state is None:
                stored = self._store.get(key_bytes(number, key))
                state = keyed.new() if stored is None else state_from_bytes(stored)
                cached[key] = state
            keyed.process(state, kind, time, fields, features)
            changed.add(key)
        if kind != "clicks":
            return None
        for name, most in self._bounded:
            if features.get(name) == most:
                self.saturated[name] += 1
        return features

    def commit(self, position: bytes) -> None:
        """Keeps the states as they are, and with them where the reader of events stands."""
        put = self._store.put
        for number, (cached, changed) in enumerate(zip(self._cached, self._changed, strict=True)):
            for key in changed:
                put(key_bytes(number, key), state_bytes(cached[key]))
            changed.clear()
            if len(cached) > self._max_cached:
                cached.clear()
        for impression in self._new_impressions:
            put(key_bytes(_JOIN, impression), state_bytes(self._impressions[impression]))
        self._new_impressions.clear()
        if len(self._impressions) > self._max_cached:
            self._impressions.clear()
        self._store.commit(position)
        self._sweep()

    def rollback(self) -> None:
        """Goes back to the last commit, such as when the transaction that the events belong to is aborted."""
        for cached, changed in zip(self._cached, self._changed, strict=True):
            cached.clear()
            changed.clear()
        self._impressions.clear()
        self._new_impressions.clear()
        self._store.discard()
        self._swept_to = b""
        self._store.put(_DECLARATION, self._fingerprint)

    def position(self) -> bytes | None:
        """What the last commit was given; None before the first."""
        return self._store.position()

    def _sweep(self) -> None:
        """Removes the next few keys that say nothing any more; kept with the next commit."""
        limit = min(self._since_sweep * _KEYS_SWEPT_PER_EVENT, _MOST_SWEPT)
        self._since_sweep = 0
        found = self._store.scan(self._swept_to, limit)
        self._swept_to = found[-1][0] if len(found) == limit and limit else b""
        for key, content in found:
            horizon = self._horizons.get(int.from_bytes(key[:2], "big"))
            if horizon is not None and last_touched(content) + horizon < self._last_time:
                self._store.delete(key)
                self.expired += 1


def _fingerprint(settings: StreamSettings) -> bytes:
    declared = settings.model_dump_json(include={"features": True, "events": True})
    return hashlib.sha256(declared.encode()).digest()
