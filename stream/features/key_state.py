"""The features of one key: its state and an event in, its state and the event's features out.

Pure, and of one key at a time, so that whatever groups events by key can run it.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

import msgspec

from adclick.stream.features.feature import Feature, Fields
from adclick.stream.features.tiles import tiles_of

_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder()
_TOUCHED = struct.Struct(">q")


class KeyFeatures:
    """The features that share a key.

    Attributes:
        by: The key's columns.
        names: The features' names.
        horizon: How long an untouched key's state says anything, in microseconds.
    """

    def __init__(self, by: tuple[str, ...], features: Mapping[str, Feature]) -> None:
        self.by = by
        self.names = tuple(features)
        # A window ends with its last tile.
        self.horizon = max(f.length + 2 * tiles_of(f.length)[0] for f in features.values())
        self._features = tuple(features.values())
        # In a state, when the key was last touched, then a state for each feature.
        self._added = {
            kind: tuple((i, f.add()) for i, f in enumerate(self._features, 1) if f.of == kind)
            for kind in ("impressions", "clicks")
        }
        self._values = tuple((i, name, f.value()) for i, (name, f) in enumerate(features.items(), 1))

    def key(self, fields: Fields) -> str | float | tuple[str | float, ...] | None:
        """An event's key, a value or several; None where it lacks one of the columns."""
        if len(self.by) == 1:
            return fields.get(self.by[0])
        try:
            return tuple([fields[column] for column in self.by])
        except KeyError:
            return None

    def new(self) -> list[Any]:
        """The state of a key without events."""
        return [0, *(feature.new_state() for feature in self._features)]

    def reads(self, kind: str) -> bool:
        """Whether an event of the kind changes the state."""
        return bool(self._added[kind])

    def process(self, state: list[Any], kind: str, time: int, fields: Fields, out: dict[str, float]) -> None:
        """Takes an event into the state; of a click, puts the features that are not missing into `out`."""
        state[0] = time
        for index, add in self._added[kind]:
            add(state[index], time, fields)
        if kind == "clicks":
            for index, name, value in self._values:
                found = value(state[index], time, fields)
                if found is not None:
                    out[name] = found


def state_bytes(state: list[Any]) -> bytes:
    """A state as bytes: when the key was last touched, and the rest as MessagePack."""
    return _TOUCHED.pack(state[0]) + _ENCODER.encode(state[1:])


def state_from_bytes(content: bytes) -> list[Any]:
    """The state that `state_bytes` wrote."""
    return [last_touched(content), *_DECODER.decode(memoryview(content)[8:])]


def last_touched(content: bytes) -> int:
    """When the key of a state was last touched, in microseconds since 1970."""
    return int(_TOUCHED.unpack_from(content)[0])


def key_bytes(number: int, key: object) -> bytes:
    """A key in the store: the number of the features that share it, and the values of the key's columns."""
    return number.to_bytes(2, "big") + _ENCODER.encode(key)


def features_by_key(features: Mapping[str, Feature]) -> tuple[KeyFeatures, ...]:
    """The features by the key that they share, in the order in which keys are first named."""
    groups: dict[tuple[str, ...], dict[str, Feature]] = {}
    for name, feature in features.items():
        if feature.by:
            groups.setdefault(feature.by, {})[name] = feature
    return tuple(KeyFeatures(by, group) for by, group in groups.items())
