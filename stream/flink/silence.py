"""Which partitions have nothing more for the moment, as a task of Flink learns it.

Flink says of no partition that it is at its end. So the broker is asked, and only about a partition that has been
silent while events wait for it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from adclick.stream.events import Channel

#: Finds those of some channels, each with the offset that is to come next, that are at their end.
AtEnd = Callable[[Mapping[Channel, int]], set[Channel]]

_ANSWER_SECONDS = 2.0
_PAUSE_SECONDS = 0.05


class Silence:
    """Knows which channels have been silent, and at their end, for long enough: the rule of the embedded execution.

    Args:
        channels: All channels.
        idle_seconds: How long.
        now: The time in seconds.
    """

    def __init__(self, channels: Iterable[Channel], idle_seconds: float, now: float) -> None:
        self._idle_seconds = idle_seconds
        self._arrivals = dict.fromkeys(channels, now)
        self._last_arrival = self._flowing_since = now
        self.next_offsets: dict[Channel, int] = dict.fromkeys(self._arrivals, 0)

    def arrived(self, channel: Channel, offset: int, now: float) -> None:
        """Notes an event."""
        if now - self._last_arrival > self._idle_seconds:
            # After a lull one partition's events come before another's, which was silent no longer than all.
            self._flowing_since = now
        self._last_arrival = self._arrivals[channel] = now
        self.next_offsets[channel] = offset + 1

    def candidates(self, now: float) -> dict[Channel, int]:
        """The channels that are idle if they are at their end, with the offset that is to come next."""
        before = now - self._idle_seconds
        if self._flowing_since > before:
            return {}
        return {one: self.next_offsets[one] for one, arrival in self._arrivals.items() if arrival <= before}


class EndsOfPartitions:
    """Asks the broker in a thread of its own, so that nobody waits for its answer."""

    def __init__(self, at_end: AtEnd) -> None:
        self._at_end = at_end
        self._lock = threading.Condition()
        self._asked: Mapping[Channel, int] | None = None
        self._answer: dict[Channel, int] = {}
        threading.Thread(target=self._run, name="ends-of-partitions", daemon=True).start()

    def at_end(self, asked: Mapping[Channel, int]) -> set[Channel]:
        """Those that were at their end when the broker was last asked; it is asked again."""
        with self._lock:
            found = {one for one, offset in asked.items() if self._answer.get(one) == offset}
            if len(found) < len(asked):
                self._asked = asked
                self._lock.notify()
        return found

    def _run(self) -> None:
        while True:
            with self._lock:
                while self._asked is None:
                    self._lock.wait()
                asked, self._asked = self._asked, None
            found = self._at_end(asked)
            with self._lock:
                self._answer = {one: asked[one] for one in found}
            time.sleep(_PAUSE_SECONDS)


def ends_by_broker(options: Mapping[str, Any], topics: Mapping[str, str]) -> AtEnd:
    """Asks a broker.

    Args:
        options: A consumer's, see `consumer_options`.
        topics: The topic of each kind of events.
    """
    from confluent_kafka import Consumer, KafkaError, TopicPartition

    consumer = Consumer(dict(options))
    kinds = {topic: kind for kind, topic in topics.items()}

    def at_end(asked: Mapping[Channel, int]) -> set[Channel]:
        consumer.assign([TopicPartition(topics[kind], number, offset) for (kind, number), offset in asked.items()])
        open_channels, ended = set(asked), set()
        while open_channels:
            messages = consumer.consume(len(asked), _ANSWER_SECONDS)
            if not messages:
                break
            for message in messages:
                channel = (kinds.get(message.topic(), ""), message.partition())
                error = message.error()
                # The first answer counts: behind a message at the offset there is an end, too.
                if channel in open_channels and error is not None and error.code() == KafkaError._PARTITION_EOF:
                    ended.add(channel)
                open_channels.discard(channel)
        consumer.unassign()
        return ended

    return at_end
