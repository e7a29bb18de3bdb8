"""Events, impressions and clicks, and how they are read from what a broker or a file holds."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from adclick.stream.settings import EventSettings

Kind = Literal["impressions", "clicks"]

#: What a broker's partition is to events: those of one kind and partition come in one order.
Channel = tuple[str, int]

#: Where an event stands in the order of all: time, kind, id, partition, offset.
Place = tuple[int, str, str, int, int]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
# A time beyond these is one of another unit or of another calendar.
_FIRST = (datetime(2000, 1, 1, tzinfo=UTC) - _EPOCH) // _MICROSECOND
_LAST = (datetime(2100, 1, 1, tzinfo=UTC) - _EPOCH) // _MICROSECOND
_UNITS = {"epoch_seconds": 1_000_000, "epoch_milliseconds": 1_000}
# A key of an object and its colon; text with an escaped quote may look like one, too.
_KEY = re.compile(rb'"[ \t\r\n]*:')
# Many such numbers still have a sum that the model can read.
_LARGEST = 1e30
# At one time impressions come before clicks: a click follows what it clicks.
_KIND_ORDER = {"impressions": "0", "clicks": "1"}


@dataclass(frozen=True, slots=True)
class Event:
    """What happened, to whom, when.

    Attributes:
        kind: `impressions` or `clicks`.
        id: What names it among those of its kind.
        time: When it happened, in microseconds since 1970, UTC.
        fields: The declared columns that it has a value of, by name: text, or a finite number.
        partition: Of the broker's topic; 0 in files.
        offset: In the partition; the running number in files.
    """

    kind: Kind
    id: str
    time: int
    fields: Mapping[str, str | float]
    partition: int = 0
    offset: int = 0

    @property
    def channel(self) -> Channel:
        """The kind and partition, whose events come in one order."""
        return (self.kind, self.partition)

    @property
    def place(self) -> Place:
        """Where it stands in the order of all events: by time; at one time impressions first, then by id.

        So the order is that of the events themselves, however they are parted into files or partitions.
        """
        return (self.time, _KIND_ORDER[self.kind], self.id, self.partition, self.offset)


@dataclass(frozen=True, slots=True)
class RejectedEvent:
    """What could not be read as an event.

    Attributes:
        kind: What it should have been.
        reason: Why not, in words, with field and value.
        payload: Its bytes as they came.
        partition: Of the broker's topic; 0 in files.
        offset: In the partition; the running number in files.
    """

    kind: Kind
    reason: str
    payload: bytes
    partition: int = 0
    offset: int = 0


class _NotAnEvent(Exception):
    pass


def _fault_of_keys(payload: bytes) -> str | None:
    """Which key an object of a JSON text has twice (RFC 8259 leaves open which counts); None if none has."""
    doubled: list[str] = []

    def note(pairs: list[tuple[str, Any]]) -> None:
        doubled.extend(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)

    try:
        json.loads(payload.decode(), object_pairs_hook=note)
    except RecursionError:
        return "nested too deeply"
    return f"{doubled[0]}: stands there twice" if doubled else None


@dataclass(frozen=True)
class EventReader:
    """Reads the events of one kind.

    Attributes:
        kind: `impressions` or `clicks`.
        settings: How their id and time are called.
        columns: The columns that are kept of each event; others are left out.
        numbers: Those of them that hold numbers; all others hold text.
        missing: Texts that mean a missing value.
        max_bytes: A larger message is no event.
        sources: How columns are called in what is read, where it is not by their name.
    """

    kind: Kind
    settings: EventSettings
    columns: Collection[str]
    numbers: Collection[str] = frozenset()
    missing: Collection[str] = frozenset({""})
    max_bytes: int = 65_536
    sources: Mapping[str, str] = field(default_factory=dict)
    _microseconds: Callable[[Any], int] = field(init=False, repr=False, compare=False)
    _kept: tuple[tuple[str, str, bool], ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_microseconds", _reader_of_times(self.settings.time_format))
        kept = tuple((name, self.sources.get(name, name), name in self.numbers) for name in self.columns)
        object.__setattr__(self, "_kept", kept)

    def read(self, payload: bytes, partition: int = 0, offset: int = 0) -> Event | RejectedEvent:
        """An event from its JSON object, as UTF-8; ids may be numbers, as some writers have them."""
        import orjson

        if len(payload) > self.max_bytes:
            reason = f"{len(payload)} bytes are more than the {self.max_bytes} that an event may have"
            return RejectedEvent(self.kind, reason, payload, partition, offset)
        try:
            record = orjson.loads(payload)
        except orjson.JSONDecodeError as error:
            return RejectedEvent(self.kind, f"not JSON: {error}", payload, partition, offset)
        if not isinstance(record, dict):
            return RejectedEvent(self.kind, "not a JSON object", payload, partition, offset)
        # Where as many keys are written as were read none was written twice, which spares the slow look.
        if len(_KEY.findall(payload)) != len(record) and (fault := _fault_of_keys(payload)) is not None:
            return RejectedEvent(self.kind, fault, payload, partition, offset)
        try:
            return self._event(record, partition, offset)
        except _NotAnEvent as error:
            return RejectedEvent(self.kind, str(error), payload, partition, offset)

    def from_record(
        self, record: Mapping[str, Any], payload: bytes, partition: int = 0, offset: int = 0
    ) -> Event | RejectedEvent:
        """An event from a parsed record, such as a CSV file's row by column, whose bytes are `payload`."""
        try:
            return self._event(record, partition, offset)
        except _NotAnEvent as error:
            return RejectedEvent(self.kind, str(error), payload, partition, offset)

    def _event(self, record: Mapping[str, Any], partition: int, offset: int) -> Event:
        settings = self.settings
        name = f"{partition}-{offset:012d}" if settings.id is None else record.get(settings.id)
        if type(name) is not str:
            if type(name) is not int:
                what = "is missing" if name is None else f"is {type(name).__name__}, not text or a whole number"
                raise _NotAnEvent(f"{settings.id}: {what}")
            name = str(name)
        if not name:
            raise _NotAnEvent(f"{settings.id}: is empty")
        moment = record.get(settings.time)
        if moment is None or moment == "":
            raise _NotAnEvent(f"{settings.time}: is missing")
        try:
            time = self._microseconds(moment)
        except (ValueError, TypeError, OverflowError):
            raise _NotAnEvent(f"{settings.time}: {moment!r} is no time as {settings.time_format}") from None
        if not _FIRST <= time < _LAST:
            raise _NotAnEvent(f"{settings.time}: {moment!r} is not between the years 2000 and 2100")
        fields: dict[str, str | float] = {}
        for column, source, is_number in self._kept:
            value = record.get(source)
            if value is None:
                continue
            if is_number:
                number = _number(column, value, self.missing)
                if number is not None:
                    fields[column] = number
            elif type(value) is str:
                if value not in self.missing:
                    fields[column] = value
            elif type(value) is int:
                fields[column] = str(value)
            elif type(value) is bool:
                fields[column] = "true" if value else "false"
            else:
                raise _NotAnEvent(f"{column}: is {type(value).__name__}, not text, a whole number, true or false")
        return Event(self.kind, name, time, fields, partition, offset)


def _number(column: str, value: object, missing: Collection[str]) -> float | None:
    """A number of at most `_LARGEST`; None for what is missing, NaN among it."""
    if type(value) is str:
        if value in missing:
            return None
        try:
            number = float(value)
        except ValueError:
            raise _NotAnEvent(f"{column}: {value!r} is no number") from None
    elif type(value) is float or type(value) is int:
        try:
            number = float(value)
        except OverflowError:
            raise _NotAnEvent(f"{column}: is beyond what a number can hold") from None
    else:
        raise _NotAnEvent(f"{column}: is {type(value).__name__}, not a number")
    if number != number:
        return None
    if not -_LARGEST <= number <= _LARGEST:
        raise _NotAnEvent(f"{column}: {value!r} is beyond {_LARGEST:g}")
    return number


def _reader_of_times(form: str) -> Callable[[Any], int]:
    """Reads a time of a form as microseconds since 1970; without an offset it is UTC."""
    if form in _UNITS:
        unit = _UNITS[form]

        def from_number(value: Any) -> int:
            if type(value) is int:
                return value * unit
            if type(value) is str and re.fullmatch(r"-?[0-9]{1,18}", value):
                return int(value) * unit
            if isinstance(value, bool):
                raise ValueError
            return round(float(value) * unit)

        return from_number
    if form == "iso8601":

        def from_iso(value: Any) -> int:
            return _since_1970(datetime.fromisoformat(value))

        return from_iso

    def from_pattern(value: Any) -> int:
        return _since_1970(datetime.strptime(str(value), form))

    return from_pattern


def _since_1970(moment: datetime) -> int:
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return (moment - _EPOCH) // _MICROSECOND


def iso_time(microseconds: int) -> str:
    """A moment in ISO 8601, UTC, to the microsecond."""
    return (_EPOCH + timedelta(microseconds=microseconds)).isoformat(timespec="microseconds").replace("+00:00", "Z")


def microseconds_since_1970(text: str) -> int:
    """The moment of a text in ISO 8601, as `iso_time` writes it; UTC unless the text says otherwise.

    Raises:
        ValueError: It is none.
    """
    return _since_1970(datetime.fromisoformat(text))
