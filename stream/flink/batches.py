"""What the tasks of the Flink execution do, as functions of bytes, without Flink.

The order of events is made by one task, as in the embedded execution, and events leave it in batches. A batch goes in
parts to the tasks that hold the keys: each key's events are in one bucket, whose parts come in the order of batches.
The results of the parts come together again by the batch's number.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from zlib import crc32

import msgspec

from adclick.stream.clicks import Click, featured_bytes
from adclick.stream.events import Event
from adclick.stream.features.feature import SECONDS_TO_CLICK
from adclick.stream.features.join import ImpressionJoin
from adclick.stream.features.key_state import features_by_key, key_bytes, state_bytes, state_from_bytes
from adclick.stream.features.time_to_click import TimeToClick
from adclick.stream.settings import StreamSettings

#: Into so many buckets keys are parted, by a checksum. More than tasks, that these get about the same; few, since each
#: bucket's state is written by a request of its own.
BUCKETS = 16

#: Between commits so many states are held in memory at most.
MOST_CACHED = 100_000

_encode = msgspec.msgpack.encode
_decode = msgspec.msgpack.decode

#: An event's entry in a part: its number among the batch's clicks, -1 for an impression; the key of features, its
#: number and bytes; the event's time and the fields that these features read.
_Entry = tuple[int, int, bytes, int, dict[str, str | float]]


def event_bytes(event: Event) -> bytes:
    """An event on its way to the order."""
    return _encode((event.kind, event.id, event.time, event.fields, event.partition, event.offset))


def event_from_bytes(content: bytes) -> Event:
    """The event that `event_bytes` wrote."""
    return Event(*_decode(content))


@dataclass(frozen=True)
class FlinkBatch:
    """Events that left the order together.

    Attributes:
        head: What `Joiner` needs to know of it.
        parts: By bucket, what `BucketFeatures` takes.
    """

    head: bytes
    parts: dict[int, bytes]


class Batches:
    """Makes batches of events in their order, and joins clicks with their impressions before.

    Args:
        settings: The declared features.
        stored: The stored time of an impression, by its key; None where none is.
        store: Keeps the time of an impression.
    """

    def __init__(
        self,
        settings: StreamSettings,
        stored: Callable[[str], int | None],
        store: Callable[[str, int], None],
    ) -> None:
        self._keys = features_by_key(settings.features)
        self._stored, self._store = stored, store
        self._join: ImpressionJoin | None = None
        if settings.joins_impressions:
            assert settings.impression_column is not None
            self._join = ImpressionJoin(settings.impression_column, settings.impression_window)
        self._times_to_click = tuple(n for n, feature in settings.features.items() if isinstance(feature, TimeToClick))
        self._plan = {
            kind: tuple(
                (number, keyed, _columns(settings, keyed.names))
                for number, keyed in enumerate(self._keys)
                if kind == "clicks" or keyed.reads(kind)
            )
            for kind in ("impressions", "clicks")
        }

    def late(self, number: int, click: Event) -> FlinkBatch:
        """The batch of a click that came too late for features."""
        return FlinkBatch(_encode((number, 0, [(*_click(click), {}, True)])), {})

    def batch(self, number: int, events: Iterable[Event]) -> FlinkBatch:
        """The batch of events in time, in their order.

        Args:
            number: The batch's number; no other has it.
            events: What left the order.
        """
        parts: defaultdict[int, list[_Entry]] = defaultdict(list)
        clicks: list[Any] = []
        for event in events:
            kind, time, fields = event.kind, event.time, event.fields
            features: dict[str, float] = {}
            if self._join is not None:
                impression = self._join.key(kind, event.id, fields)
                if impression is not None and kind == "impressions":
                    self._store(str(impression), time)
                elif impression is not None:
                    known = self._stored(str(impression))
                    if known is not None:
                        fields = self._join.joined([known], time, fields)
                        if SECONDS_TO_CLICK in fields:
                            features = {name: float(fields[SECONDS_TO_CLICK]) for name in self._times_to_click}
            index = -1
            if kind == "clicks":
                index = len(clicks)
                clicks.append((*_click(event), features, False))
            for key_number, keyed, columns in self._plan[kind]:
                key = keyed.key(fields)
                if key is None:
                    continue
                content = key_bytes(key_number, key)
                read = {name: fields[name] for name in columns if name in fields}
                parts[crc32(content) % BUCKETS].append((index, key_number, content, time, read))
        head = _encode((number, len(parts), clicks))
        return FlinkBatch(head, {bucket: _encode((number, entries)) for bucket, entries in parts.items()})


def _columns(settings: StreamSettings, names: Sequence[str]) -> tuple[str, ...]:
    """What features of a key read."""
    read = {SECONDS_TO_CLICK}.union(*(settings.features[n].texts | settings.features[n].numbers for n in names))
    return tuple(sorted(read))


def _click(event: Event) -> tuple[Any, ...]:
    return (event.id, event.time, event.fields)


class BucketFeatures:
    """The features of the keys of one bucket.

    Args:
        settings: The declared features.
        stored: The stored state of a key; None where none is.
        store: Keeps the state of a key.
    """

    def __init__(
        self,
        settings: StreamSettings,
        stored: Callable[[bytes], bytes | None],
        store: Callable[[bytes, bytes], None],
    ) -> None:
        self._keys = features_by_key(settings.features)
        self._stored, self._store = stored, store
        self._states: dict[bytes, list[Any]] = {}

    def process(self, part: bytes) -> tuple[int, bytes]:
        """Takes a part of a batch in; parts come in the order of batches.

        Returns:
            The batch's number, and what `Joiner` takes.
        """
        number, entries = _decode(part)
        states, changed = self._states, {}
        results = []
        for index, key_number, key, time, fields in entries:
            keyed = self._keys[key_number]
            state = states.get(key)
            if state is None:
                content = self._stored(key)
                state = states[key] = keyed.new() if content is None else state_from_bytes(content)
            features: dict[str, float] = {}
            keyed.process(state, "clicks" if index >= 0 else "impressions", time, fields, features)
            changed[key] = state
            if features:
                results.append((index, key_number, features))
        for key, state in changed.items():
            self._store(key, state_bytes(state))
        if len(states) > MOST_CACHED // BUCKETS:
            states.clear()
        return number, _encode((number, results))


class Joiner:
    """Puts batches together again from their heads and the results of their parts, in whatever order these come."""

    def __init__(self, contents: Iterable[tuple[bool, bytes]] = ()) -> None:
        """Makes one for a batch.

        Args:
            contents: What has come before: whether it is the head, and its bytes.
        """
        self._head: bytes | None = None
        self._results: list[bytes] = []
        for is_head, content in contents:
            self.add(is_head, content)

    def add(self, is_head: bool, content: bytes) -> None:
        """Takes what has come."""
        if is_head:
            self._head = content
        else:
            self._results.append(content)

    def clicks(self) -> list[tuple[bytes, bytes]] | None:
        """Each click's id and its bytes, as `featured_bytes` writes them, once all has come; None until then."""
        if self._head is None:
            return None
        _, parts, clicks = _decode(self._head)
        if len(self._results) < parts:
            return None
        found: list[list[tuple[int, dict[str, float]]]] = [[] for _ in clicks]
        for content in self._results:
            for index, key_number, features in _decode(content)[1]:
                found[index].append((key_number, features))
        featured = []
        for (name, time, fields, features, late), by_key in zip(clicks, found, strict=True):
            # In the order in which one process computes them.
            for _, more in sorted(by_key, key=lambda pair: pair[0]):
                features |= more
            click = Click(name, time, fields, features, late)
            featured.append((name.encode(), featured_bytes(click)))
        return featured
