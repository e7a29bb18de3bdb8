"""The operator's features are those of the events until then, whatever is committed, rolled back or started again."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from adclick.stream.events import Event
from adclick.stream.features.operator import FeatureOperator
from adclick.stream.ordering import EventOrder
from adclick.stream.settings import StreamSettings
from adclick.stream.state.store import MemoryState

SECOND = 1_000_000
SETTINGS = StreamSettings.model_validate({"features": {"clicks_10s": {"kind": "count", "by": ["ip"], "window": "10s"}}})


def click(seconds: float, **fields: str) -> Event:
    return Event("clicks", str(seconds), int(seconds * SECOND), fields)


def test_a_count_is_of_its_own_key_and_of_its_window() -> None:
    operator = FeatureOperator(SETTINGS, MemoryState())
    times = [(100, "a"), (101, "b"), (104, "a"), (109.5, "a"), (110, "a"), (140, "a")]
    counts = [operator.process(click(time, ip=ip)) for time, ip in times]
    # Tiles of a second: at 110 the one of second 100 is out.
    assert counts == [{"clicks_10s": n} for n in (1, 1, 2, 3, 3, 1)]


def test_without_its_key_a_feature_is_missing() -> None:
    assert FeatureOperator(SETTINGS, MemoryState()).process(click(1)) == {}


def test_after_a_rollback_it_is_as_at_the_last_commit() -> None:
    state = MemoryState()
    operator = FeatureOperator(SETTINGS, state)
    operator.process(click(100, ip="a"))
    operator.commit(b"one")
    operator.process(click(101, ip="a"))
    operator.rollback()
    assert operator.process(click(102, ip="a")) == {"clicks_10s": 2}
    assert FeatureOperator(SETTINGS, state).process(click(103, ip="a")) == {"clicks_10s": 2}
    assert operator.position() == b"one"


@settings(deadline=None)
@given(st.data())
def test_however_events_are_parted_and_mixed_their_features_are_the_same(data: st.DataObject) -> None:
    drawn = st.tuples(st.integers(0, 40), st.sampled_from(["impressions", "clicks"]), st.sampled_from("abc"))
    happened = [
        Event(kind, f"e{n}", (1_000 + at) * SECOND // 4, {"ip": ip, "impression_id": f"e{n // 2}"}, 0, n)  # type: ignore[arg-type]
        for n, (at, kind, ip) in enumerate(data.draw(st.lists(drawn, max_size=40)))
    ]
    declared = StreamSettings.model_validate(
        {
            "events": {"impressions": {"id": "impression_id"}},
            "features": {
                "clicks_2s": {"kind": "count", "by": ["ip"], "window": "2s"},
                "since": {"kind": "time_since_last", "by": ["ip"], "of": "impressions", "window": "1m"},
                "to_click": {"kind": "time_to_click"},
            },
        }
    )
    in_order = FeatureOperator(declared, MemoryState())
    expected = {e.id: in_order.process(e) for e in sorted(happened, key=lambda event: event.place)}
    # Each partition a little out of order, by less than the disorder that is allowed.
    disorder = 2 * SECOND
    parts: dict[tuple[str, int], list[Event]] = {}
    for event in sorted(happened, key=lambda event: event.time + data.draw(st.integers(0, disorder))):
        partition = data.draw(st.integers(0, 2))
        offset = len(parts.setdefault((event.kind, partition), []))
        parts[(event.kind, partition)].append(replace(event, partition=partition, offset=offset))
    order = EventOrder(disorder, parts)
    operator = FeatureOperator(declared, MemoryState())
    found: dict[str, dict[str, float] | None] = {}
    while parts:
        channel = data.draw(st.sampled_from(sorted(parts)))
        assert order.add(parts[channel].pop(0))
        if not parts[channel]:
            del parts[channel]
            order.set_idle(channel)
        if parts:
            found |= {event.id: operator.process(event) for event in order.ready()}
    found |= {event.id: operator.process(event) for event in order.flush()}
    assert found == expected
