"""The order of events by time, where they come a little out of it; and which come too late.

Watermarks as in Akidau et al., "The Dataflow Model", VLDB 2015: each channel's (a partition of a kind of events) is its
greatest time less the disorder that is allowed. An event below it is late, a function of its channel's order alone.
Events leave in order, once all channels have passed them.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from operator import itemgetter
from typing import Any

import msgspec

from adclick.stream.events import Channel, Event, Place


class EventOrder:
    """Puts the events of several channels in one order.

    Attributes:
        last_place: Where the last event that left stands; None before the first.
    """

    def __init__(self, max_out_of_orderness: int, channels: Iterable[Channel]) -> None:
        """Makes an order of nothing.

        Args:
            max_out_of_orderness: How far behind its channel's newest event one may come, in microseconds.
            channels: All channels; events wait until each of them has passed or is idle.
        """
        self._disorder = max_out_of_orderness
        self._newest: dict[Channel, int | None] = dict.fromkeys(channels)
        self._idle: set[Channel] = set()
        self._waiting: list[tuple[Place, Event]] = []
        self._is_sorted = False
        self.last_place: Place | None = None

    def add(self, event: Event) -> bool:
        """Takes an event in.

        Returns:
            Whether it is in time; a late one is not kept. Late is what lies further behind its channel's newest event
            than is allowed, and what comes before an event that has left already, let through by `set_idle` or `flush`.
        """
        channel = event.channel
        newest = self._newest[channel]
        self._idle.discard(channel)
        if newest is None or event.time > newest:
            self._newest[channel] = event.time
        elif event.time < newest - self._disorder:
            return False
        place = event.place
        if self.last_place is not None and place <= self.last_place:
            return False
        self._waiting.append((place, event))
        self._is_sorted = False
        return True

    def set_idle(self, channel: Channel) -> None:
        """Lets others pass a channel that has nothing more for the moment, until its next event."""
        self._idle.add(channel)

    def set_channels(self, channels: Iterable[Channel]) -> None:
        """Keeps the given channels, adds those that are new and lets go of others, such as after a rebalance."""
        wanted = list(channels)
        self._newest = {channel: self._newest.get(channel) for channel in wanted}
        self._idle.intersection_update(wanted)

    def ready(self) -> list[Event]:
        """The events that all channels have passed, in order; they leave."""
        if self._idle and len(self._idle) == len(self._newest):
            return self.flush()
        passed: int | None = None
        for channel, newest in self._newest.items():
            if channel in self._idle:
                continue
            if newest is None:
                return []
            passed = newest if passed is None else min(passed, newest)
        if passed is None:
            return []
        return self._leave((passed - self._disorder,))

    def flush(self) -> list[Event]:
        """All that wait, in order, as at the end of history; they leave."""
        return self._leave(None)

    def through(self, place: Place) -> list[Event]:
        """Those up to a place, in order, whatever else may come; they leave, for a reader that catches up."""
        leaving = self._leave((*place, None))
        if self.last_place is None or place > self.last_place:
            self.last_place = place
        return leaving

    def holding_back(self) -> set[Channel]:
        """The channels that the events of others wait for: those that are least far, of those that are not idle."""
        newest = {channel: time for channel, time in self._newest.items() if channel not in self._idle}
        unseen = {channel for channel, time in newest.items() if time is None}
        if unseen or not newest:
            return unseen
        least = min(time for time in newest.values() if time is not None)
        return {channel for channel, time in newest.items() if time is not None and time <= least + self._disorder}

    def __len__(self) -> int:
        return len(self._waiting)

    def _leave(self, before: tuple[Any, ...] | None) -> list[Event]:
        """Those before a place, or the beginning of one: of a time itself more may come."""
        waiting = self._waiting
        if not self._is_sorted:
            # Nearly in order as they come, which this sort is fast on.
            waiting.sort(key=itemgetter(0))
            self._is_sorted = True
        number = len(waiting) if before is None else bisect_left(waiting, before, key=itemgetter(0))
        leaving = [event for _, event in waiting[:number]]
        if leaving:
            self.last_place = waiting[number - 1][0]
            del waiting[:number]
        return leaving

    def to_bytes(self) -> bytes:
        """All that `from_bytes` needs to go on from here."""
        return self._to_bytes([(e.kind, e.id, e.time, dict(e.fields), e.partition, e.offset) for _, e in self._waiting])

    def marks_to_bytes(self) -> bytes:
        """As `to_bytes`, without the events that wait, for one who keeps them himself: see `restore`."""
        return self._to_bytes([])

    def restore(self, events: Iterable[Event]) -> None:
        """Lets events wait that did when `marks_to_bytes` was written; those of them that left before it are gone."""
        left = self.last_place
        self._waiting += [(event.place, event) for event in events if left is None or event.place > left]
        self._is_sorted = False

    def _to_bytes(self, waiting: list[Any]) -> bytes:
        marks = [(kind, partition, newest) for (kind, partition), newest in self._newest.items()]
        return msgspec.msgpack.encode((self._disorder, marks, self.last_place, waiting))

    @classmethod
    def from_bytes(cls, content: bytes) -> EventOrder:
        """The order that `to_bytes` wrote; no channel is idle: while nobody read, each may have got more."""
        disorder, marks, last_place, waiting = msgspec.msgpack.decode(content)
        order = cls(disorder, [])
        # Of an older version's marks the rest is left.
        for kind, partition, newest, *_ in marks:
            order._newest[(kind, partition)] = newest
        order.last_place = None if last_place is None else tuple(last_place)
        events = [Event(*parts) for parts in waiting]
        order._waiting = [(event.place, event) for event in events]
        return order
