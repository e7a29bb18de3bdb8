"""Events leave in the order of time; what is late depends on its own channel's order alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adclick.stream.events import Event
from adclick.stream.ordering import EventOrder

CHANNELS = [("impressions", 0), ("clicks", 0), ("clicks", 1)]

arrivals = st.lists(st.tuples(st.sampled_from(CHANNELS), st.integers(0, 60)), max_size=60)


def as_events(arrived: list[tuple[tuple[str, int], int]]) -> list[Event]:
    return [Event(kind, str(n), time, {}, part, n) for n, ((kind, part), time) in enumerate(arrived)]


@given(arrivals, st.integers(0, 30))
def test_each_event_leaves_once_in_order_or_is_late(arrived: list[tuple[tuple[str, int], int]], disorder: int) -> None:
    order = EventOrder(disorder, CHANNELS)
    left: list[Event] = []
    late: list[Event] = []
    for event in as_events(arrived):
        if not order.add(event):
            late.append(event)
        left += order.ready()
    left += order.flush()
    assert [event.place for event in left] == sorted(event.place for event in left)
    assert {event.id for event in left} | {event.id for event in late} == {str(n) for n in range(len(arrived))}
    assert len(left) + len(late) == len(arrived)
    # By the definition: further behind the greatest time before it on its channel than is allowed.
    expected = set()
    for n, (channel, time) in enumerate(arrived):
        before = [t for c, t in arrived[:n] if c == channel]
        if before and time < max(before) - disorder:
            expected.add(str(n))
    assert {event.id for event in late} == expected


@given(arrivals, st.integers(0, 30), st.data())
def test_it_goes_on_from_its_bytes(
    arrived: list[tuple[tuple[str, int], int]], disorder: int, data: st.DataObject
) -> None:
    events = as_events(arrived)
    stop = data.draw(st.integers(0, len(events)))
    straight, stopped = EventOrder(disorder, CHANNELS), EventOrder(disorder, CHANNELS)
    for n, event in enumerate(events):
        if n == stop:
            stopped = EventOrder.from_bytes(stopped.to_bytes())
        assert straight.add(event) == stopped.add(event)
        assert straight.ready() == stopped.ready()
    assert straight.flush() == EventOrder.from_bytes(stopped.to_bytes()).flush()


def test_an_idle_channel_holds_nothing_up_and_its_next_event_does_again() -> None:
    order = EventOrder(0, CHANNELS[:2])
    order.add(Event("clicks", "a", 10, {}))
    order.add(Event("clicks", "b", 20, {}))
    assert order.ready() == []
    order.set_idle(("impressions", 0))
    assert [event.id for event in order.ready()] == ["a"]
    order.add(Event("impressions", "i", 12, {}))
    order.add(Event("clicks", "c", 30, {}))
    assert [event.id for event in order.ready()] == []
    order.set_idle(("impressions", 0))
    order.set_idle(("clicks", 0))
    assert [event.id for event in order.ready()] == ["i", "b", "c"]


def test_who_goes_on_waits_for_channels_that_were_idle() -> None:
    order = EventOrder(0, CHANNELS[:2])
    order.add(Event("impressions", "i", 10, {}))
    for channel in CHANNELS[:2]:
        order.set_idle(channel)
    assert [event.id for event in order.ready()] == ["i"]
    order = EventOrder.from_bytes(order.to_bytes())
    order.add(Event("clicks", "b", 30, {}))
    assert order.ready() == []
    assert order.add(Event("impressions", "j", 20, {})), "it was there while nobody read"
    order.add(Event("impressions", "k", 40, {}))
    assert [event.id for event in order.ready()] == ["j"]


def test_what_comes_before_an_event_that_was_let_through_is_late() -> None:
    order = EventOrder(100, CHANNELS[:2])
    order.add(Event("clicks", "a", 50, {}))
    order.flush()
    assert not order.add(Event("impressions", "i", 40, {}))
    assert order.add(Event("impressions", "j", 60, {}))


@pytest.mark.parametrize("gone", [("clicks", 1)])
def test_a_channel_that_was_given_away_holds_nothing_up(gone: tuple[str, int]) -> None:
    order = EventOrder(0, CHANNELS[1:])
    order.add(Event("clicks", "a", 1, {}))
    order.add(Event("clicks", "b", 2, {}))
    assert order.ready() == []
    order.set_channels([channel for channel in CHANNELS[1:] if channel != gone])
    assert [event.id for event in order.ready()] == ["a"]
