"""What a broker or a file holds is an event, or rejected with the reason."""

from __future__ import annotations

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adclick.stream.events import Event, EventReader, RejectedEvent, iso_time
from adclick.stream.settings import EventSettings

READER = EventReader("clicks", EventSettings(id="click_id"), ("ip", "user", "cost"), {"cost"}, max_bytes=200)


def test_an_event_has_its_id_time_and_declared_columns() -> None:
    message = {"click_id": 7, "time": "2026-10-05T12:00:00.25+02:00", "ip": "10.0.0.1", "user": 12, "cost": 1, "x": []}
    event = READER.read(json.dumps(message).encode(), partition=3, offset=9)
    assert event == Event(
        "clicks", "7", 1_791_194_400_250_000, {"ip": "10.0.0.1", "user": "12", "cost": 1.0}, partition=3, offset=9
    )
    assert iso_time(event.time) == "2026-10-05T10:00:00.250000Z"


TEXTS = st.text(max_size=6)


@given(st.dictionaries(TEXTS.map("k{}".format), TEXTS | st.none() | st.dictionaries(TEXTS, st.none())))
def test_an_event_whose_texts_look_like_keys_is_read(more: dict[str, object]) -> None:
    record = {**more, "click_id": "a", "time": "2026-10-05", "text": '": {"ip": "ip":'}
    payload = json.dumps(record, ensure_ascii=False).encode()
    assert isinstance(dataclasses.replace(READER, max_bytes=65_536).read(payload), Event)


@pytest.mark.parametrize("absent", [None, ""])
def test_a_missing_value_is_absent(absent: str | None) -> None:
    event = READER.read(json.dumps({"click_id": "a", "time": "2026-10-05", "ip": absent, "cost": absent}).encode())
    assert isinstance(event, Event)
    assert event.fields == {}


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"\xff{}", "not JSON"),
        (b"[]", "not a JSON object"),
        (b"{", "not JSON"),
        (b" " * 300, "300 bytes are more than the 200"),
        (b'{"time": "2026-10-05"}', "click_id: is missing"),
        (b'{"click_id": "a", "time": "2026-10-05", "ip": "x", "ip" : "y"}', "ip: stands there twice"),
        (b'{"click_id": "a", "time": "2026-10-05", "more": {"b": 1, "b": 2}}', "b: stands there twice"),
        (b'{"click_id": "a", "click\\u005fid": "b", "time": "2026-10-05"}', "click_id: stands there twice"),
        (b'{"click_id": "", "time": "2026-10-05"}', "click_id: is empty"),
        (b'{"click_id": true, "time": "2026-10-05"}', "click_id: is bool"),
        (b'{"click_id": "a"}', "time: is missing"),
        (b'{"click_id": "a", "time": "yesterday"}', "time: 'yesterday' is no time as iso8601"),
        (b'{"click_id": "a", "time": 5}', "time: 5 is no time"),
        (b'{"click_id": "a", "time": "1970-01-02"}', "not between the years 2000 and 2100"),
        (b'{"click_id": "a", "time": "2026-10-05", "ip": ["10.0.0.1"]}', "ip: is list"),
        (b'{"click_id": "a", "time": "2026-10-05", "cost": "much"}', "cost: 'much' is no number"),
        (b'{"click_id": "a", "time": "2026-10-05", "cost": "inf"}', "cost: 'inf' is beyond 1e+30"),
    ],
)
def test_what_is_no_event_is_rejected_with_reason_and_bytes(payload: bytes, reason: str) -> None:
    rejected = READER.read(payload, partition=1, offset=5)
    assert isinstance(rejected, RejectedEvent)
    assert reason in rejected.reason
    assert (rejected.payload, rejected.partition, rejected.offset) == (payload, 1, 5)


@pytest.mark.parametrize(
    ("form", "value", "expected"),
    [
        ("epoch_seconds", 1_791_194_400, 1_791_194_400_000_000),
        ("epoch_seconds", "1791194400", 1_791_194_400_000_000),
        ("epoch_seconds", 1_791_194_400.25, 1_791_194_400_250_000),
        ("epoch_milliseconds", 1_791_194_400_250, 1_791_194_400_250_000),
        ("%y%m%d%H", "26100510", 1_791_194_400_000_000),
    ],
)
def test_times_of_each_form(form: str, value: object, expected: int) -> None:
    reader = EventReader("clicks", EventSettings(id="click_id", time_format=form), ())
    event = reader.read(json.dumps({"click_id": "a", "time": value}).encode())
    assert isinstance(event, Event)
    assert event.time == expected


@pytest.mark.parametrize("value", ["NaN", "nan", " NaN "])
def test_nan_is_missing_in_a_file(value: str) -> None:
    event = READER.from_record({"click_id": "a", "time": "2026-10-05", "cost": value}, b"")
    assert isinstance(event, Event)
    assert "cost" not in event.fields


def test_without_an_id_an_event_is_called_by_its_place() -> None:
    reader = EventReader("clicks", EventSettings(id=None), ("ip",))
    names = [reader.read(b'{"time": "2026-10-05", "ip": "1"}', 2, offset).id for offset in (9, 10)]  # type: ignore[union-attr]
    assert names == ["2-000000000009", "2-000000000010"]
    assert names == sorted(names)
