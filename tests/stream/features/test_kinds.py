"""Each kind of feature equals its words, and is the same to the bit however the operator was stopped and started."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adclick.schema.errors import ConfigError
from adclick.stream.events import Event
from adclick.stream.features.kinds import KINDS
from adclick.stream.features.operator import FeatureOperator
from adclick.stream.settings import StreamSettings
from adclick.stream.state.rocksdb import RocksState
from adclick.stream.state.store import MemoryState, StateStore
from tests.stream.features.reference import feature

WINDOWS = ("1s", "7s", "90s", "1h", "3d")
KEYS = (["ip"], ["ip", "device"], ["device"])


@st.composite
def declarations(draw: st.DrawFn) -> dict[str, dict[str, Any]]:
    """Some features of any kinds."""
    declared: dict[str, dict[str, Any]] = {}
    for n in range(draw(st.integers(1, 6))):
        kind = draw(st.sampled_from([one.model_fields["kind"].annotation.__args__[0] for one in KINDS]))
        one: dict[str, Any] = {"kind": kind}
        if kind != "time_to_click":
            one |= {"by": draw(st.sampled_from(KEYS)), "window": draw(st.sampled_from(WINDOWS))}
            if kind != "share_with_impression":
                one["of"] = draw(st.sampled_from(["clicks", "impressions"]))
        if kind in ("sum", "mean"):
            one["column"] = draw(st.sampled_from(["cost", "seconds_to_click"]))
        if kind == "distinct":
            one |= {
                "column": draw(st.sampled_from(["user", "device"])),
                "max_distinct": draw(st.sampled_from([1, 2, 9])),
            }
        declared[f"feature_{n}"] = one
    return declared


@st.composite
def histories(draw: st.DrawFn) -> list[Event]:
    """Events in order, of few keys, with gaps from none to days."""
    time = 1_790_000_000_000_000
    events = []
    for n in range(draw(st.integers(1, 30))):
        gap = draw(st.sampled_from([0, 1, 250_000, 1_000_000, 6_999_999, 60_000_000, 3_500_000_000, 90_000_000_000]))
        time += gap * draw(st.integers(0, 3))
        kind = draw(st.sampled_from(["clicks", "impressions"]))
        fields: dict[str, str | float] = {}
        for column, values in {"ip": "ab", "device": "xy", "user": "uvw"}.items():
            value = draw(st.sampled_from([*values, None]))
            if value is not None:
                fields[column] = value
        # Quarters, whose sums are exact in any order.
        cost = draw(st.none() | st.integers(-8, 8).map(lambda n: n / 4))
        if cost is not None:
            fields["cost"] = cost
        name = draw(st.sampled_from(["i", "j", "k"]))
        if kind == "clicks":
            fields["impression_id"] = name
            name = f"c{n}"
        events.append(Event(kind, name, time, fields, 0, n))
    return sorted(events, key=lambda event: event.place)


def settings_of(declared: dict[str, dict[str, Any]]) -> StreamSettings:
    return StreamSettings.model_validate(
        {
            "events": {
                "clicks": {"id": "click_id"},
                "impressions": {"id": "impression_id"},
                "impression_window": "2h",
            },
            "features": declared,
        }
    )


@settings(deadline=None)
@given(declarations(), histories())
def test_a_feature_is_what_its_words_say(declared: dict[str, dict[str, Any]], events: list[Event]) -> None:
    operator = FeatureOperator(settings_of(declared), MemoryState())
    for n, event in enumerate(events):
        found = operator.process(event)
        if event.kind == "impressions":
            assert found is None
            continue
        wanted = {name: feature(events[: n + 1], one, "2h") for name, one in declared.items()}
        assert found == pytest.approx({name: value for name, value in wanted.items() if value is not None}, abs=1e-9)


@contextmanager
def on_disk() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder) / "state"


@settings(deadline=None)
@given(declarations(), histories(), st.data())
def test_stops_starts_and_rollbacks_change_no_bit(
    declared: dict[str, dict[str, Any]], events: list[Event], data: st.DataObject
) -> None:
    declaration = settings_of(declared)
    straight = FeatureOperator(declaration, MemoryState())
    expected = [straight.process(event) for event in events]
    with on_disk() as folder:
        is_on_disk = data.draw(st.integers(0, 9)) == 0
        store: StateStore = RocksState(folder) if is_on_disk else MemoryState()
        cached = data.draw(st.sampled_from([0, 1, 100]))
        operator = FeatureOperator(declaration, store, max_cached_keys=cached)
        operator.commit(b"0")
        n = committed = 0
        while n < len(events):
            assert operator.process(events[n]) == expected[n]
            n += 1
            match data.draw(st.sampled_from(["go on", "go on", "commit", "roll back", "crash"])):
                case "commit":
                    operator.commit(str(n).encode())
                    committed = n
                case "roll back" if data.draw(st.booleans()):
                    operator.rollback()
                    n = committed
                case "crash" if data.draw(st.booleans()):
                    if is_on_disk:
                        store.close()
                        store = RocksState(folder)
                    else:
                        store.discard()
                    operator = FeatureOperator(declaration, store, max_cached_keys=cached)
                    n = int(operator.position() or b"0")
                    assert n == committed
        store.close()


@pytest.mark.parametrize("store", ["memory", "disk"])
def test_keys_that_say_nothing_any_more_are_removed(store: str, tmp_path: Path) -> None:
    declaration = settings_of(
        {
            "clicks_1m": {"kind": "count", "by": ["ip"], "window": "1m"},
            "to_click": {"kind": "time_to_click"},
        }
    )
    state: StateStore = MemoryState() if store == "memory" else RocksState(tmp_path / "state")
    operator = FeatureOperator(declaration, state, max_cached_keys=0)
    for n in range(5_000):
        seconds = 1_790_000_000 + n * 60
        operator.process(Event("impressions", f"i{n}", seconds * 1_000_000, {}, 0, n))
        operator.process(Event("clicks", f"c{n}", seconds * 1_000_000, {"ip": f"ip{n}"}, 0, n))
        if n % 50 == 49:
            operator.commit(b"")
    operator.commit(b"")
    # Two minutes of addresses and two hours of impressions live; a sweep takes as long as half as many events as keys.
    assert len(state.scan(b"", 100_000)) < 600
    assert operator.expired > 9_000
    state.close()


def test_the_state_of_other_features_is_refused() -> None:
    state = MemoryState()
    FeatureOperator(settings_of({"a": {"kind": "count", "by": ["ip"], "window": "1m"}}), state).commit(b"")
    with pytest.raises(ConfigError, match="of other features"):
        FeatureOperator(settings_of({"a": {"kind": "count", "by": ["ip"], "window": "2m"}}), state)


def test_more_distinct_values_than_are_told_apart_are_counted() -> None:
    declared = {"users": {"kind": "distinct", "by": ["ip"], "column": "user", "window": "1h", "max_distinct": 3}}
    operator = FeatureOperator(settings_of(declared), MemoryState())
    found = [
        operator.process(Event("clicks", str(n), 1_790_000_000_000_000 + n, {"ip": "a", "user": str(n)}, 0, n))
        for n in range(5)
    ]
    assert found == [{"users": n} for n in (1, 2, 3, 3, 3)]
    assert operator.saturated == {"users": 3}


@pytest.mark.parametrize(
    ("declared", "what"),
    [
        ({"kind": "count", "by": ["ip"], "window": "soon"}, "no length of time"),
        ({"kind": "count", "by": ["ip"], "window": "500ms"}, "not between 1s and 366d"),
        ({"kind": "count", "by": [], "window": "1m"}, "at least 1 item"),
        ({"kind": "median", "by": ["ip"], "window": "1m"}, "kind"),
        ({"kind": "distinct", "by": ["ip"], "window": "1m"}, "column"),
        ({"kind": "distinct", "by": ["ip"], "window": "1m", "column": "seconds_to_click"}, "as text"),
        ({"kind": "time_to_click", "window": "1m"}, "window"),
        ({"kind": "sum", "by": ["ip"], "window": "1m", "column": "ip"}, "both as text and as a number"),
    ],
)
def test_a_declaration_that_makes_no_sense_is_refused(declared: dict[str, Any], what: str) -> None:
    with pytest.raises(ValueError, match=what):
        settings_of({"feature": declared})


def test_impressions_must_be_declared_where_they_are_needed() -> None:
    with pytest.raises(ValueError, match=r"events\.impressions is not declared"):
        StreamSettings.model_validate({"features": {"to_click": {"kind": "time_to_click"}}})
