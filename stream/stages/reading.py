"""Reading of topics: partitions that are assigned by hand, where each stands, and whether it is at its end."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Iterable, Iterator
from functools import partial
from typing import Any

from adclick.stream.kafka.connection import BrokerUnreachable, consumer_options, error_text, patiently
from adclick.stream.kafka.topics import partitions_of
from adclick.stream.metrics import StreamMetrics
from adclick.stream.settings import KafkaSettings

logger = logging.getLogger(__name__)

#: A topic and a partition of it.
Partition = tuple[str, int]

EARLIEST = -2
_LAG_SECONDS = 5.0
_ANSWER_SECONDS = 10.0
_BATCH = 5_000
_READ_SECONDS = 1.0
_SILENCE_SECONDS = 60.0


class Lag:
    """Tells the metrics, every few seconds, how many messages a consumer is behind.

    Args:
        consumer: The consumer.
        topics: What it reads.
        metrics: Where it is told.
    """

    def __init__(self, consumer: Any, topics: Iterable[str], metrics: StreamMetrics) -> None:
        self._consumer = consumer
        self._topics = tuple(topics)
        self._metrics = metrics
        self._told = 0.0

    def tell(self, partitions: Iterable[Partition]) -> None:
        """Tells it, if it is time to, over the partitions that are the consumer's now."""
        from confluent_kafka import TopicPartition

        if time.monotonic() - self._told < _LAG_SECONDS:
            return
        self._told = time.monotonic()
        lags = dict.fromkeys(self._topics, 0)
        for place in self._consumer.position([TopicPartition(*one) for one in partitions]):
            _, high = self._consumer.get_watermark_offsets(place, cached=True)
            if place.offset >= 0 and high >= 0:
                lags[place.topic] += max(0, high - place.offset)
        for topic, lag in lags.items():
            self._metrics.lag.labels(topic).set(lag)


class PartitionReader:
    """Reads all partitions of topics, for a stage whose state covers them.

    Attributes:
        at_end: Since when each partition has had nothing more to read, by `time.monotonic()`.

    Args:
        settings: Where the broker is.
        group: The consumer group that the progress belongs to.
        partitions: How many each topic has.
        metrics: Where the lag is told.
    """

    def __init__(self, settings: KafkaSettings, group: str, partitions: dict[str, int], metrics: StreamMetrics) -> None:
        from confluent_kafka import Consumer

        self.at_end: dict[Partition, float] = {}
        self._settings = settings
        self._partitions = [(topic, number) for topic, count in partitions.items() for number in range(count)]
        self._consumer = Consumer(consumer_options(settings, group, error_cb=self._note_error))
        self._lag = Lag(self._consumer, partitions, metrics)
        self._paused: set[Partition] = set()
        self._ends: dict[Partition, int] = {}
        self._ends_in_doubt: dict[Partition, int] = {}

    @property
    def partitions(self) -> list[Partition]:
        """All partitions that are read."""
        return self._partitions

    @property
    def group_metadata(self) -> Any:
        """What a transaction commits progress for."""
        return self._consumer.consumer_group_metadata()

    def committed(self) -> tuple[dict[Partition, int], list[str]]:
        """The next offset to read of each partition that the group has committed, and what was noted with them."""
        from confluent_kafka import TopicPartition

        places = [TopicPartition(*one) for one in self._partitions]
        found = patiently(self._settings, lambda: self._consumer.committed(places, timeout=_ANSWER_SECONDS))
        known = [one for one in found if one.offset >= 0]
        return {(one.topic, one.partition): one.offset for one in known}, [
            one.metadata for one in known if one.metadata
        ]

    def assign(self, offsets: dict[Partition, int]) -> None:
        """Begins to read, or reads anew, from offsets; from the first event where none is given."""
        from confluent_kafka import TopicPartition

        self.at_end.clear()
        self._ends.clear()
        self._ends_in_doubt.clear()
        self.only(None)
        self._consumer.assign([TopicPartition(*one, offsets.get(one, EARLIEST)) for one in self._partitions])

    def first_offsets(self) -> dict[Partition, int]:
        """The first event that the broker still has of each partition."""
        from confluent_kafka import TopicPartition

        def first(one: Partition) -> int:
            return int(self._consumer.get_watermark_offsets(TopicPartition(*one), timeout=_ANSWER_SECONDS)[0])

        return {one: patiently(self._settings, partial(first, one)) for one in self._partitions}

    def read(self, most: int, timeout: float) -> list[Any]:
        """The next messages, as soon as there is one; none if there was none in time.

        Args:
            most: How many at most.
            timeout: How long to wait for the first, in seconds.
        """
        self._look_for_ends_again()
        first = self._consumer.poll(timeout)
        if first is None:
            return []
        messages = [first, *self._consumer.consume(most - 1, 0)] if most > 1 else [first]
        return self._without_ends(messages)

    def _look_for_ends_again(self) -> None:
        """Goes to where partitions ended before their broker was away: librdkafka tells of each end only once."""
        from confluent_kafka import KafkaException, TopicPartition

        for partition, offset in list(self._ends_in_doubt.items()):
            try:
                self._consumer.seek(TopicPartition(*partition, offset))
            except KafkaException as error:
                logger.info("waiting for Kafka: %s", error_text(error))
                return
            del self._ends_in_doubt[partition]

    def _without_ends(self, messages: Iterable[Any]) -> list[Any]:
        from confluent_kafka import KafkaError

        found = []
        for message in messages:
            error = message.error()
            if error is None:
                if self.at_end or self._ends_in_doubt:
                    partition = (message.topic(), message.partition())
                    self.at_end.pop(partition, None)
                    self._ends_in_doubt.pop(partition, None)
                found.append(message)
            elif error.code() == KafkaError._PARTITION_EOF:
                partition = (message.topic(), message.partition())
                self.at_end[partition], self._ends[partition] = time.monotonic(), message.offset()
            else:
                logger.warning("reading: %s", error)
        return found

    def only(self, partitions: Iterable[Partition] | None) -> None:
        """Reads only from some partitions until told otherwise; from all if None."""
        from confluent_kafka import TopicPartition

        paused = set() if partitions is None else set(self._partitions) - set(partitions)
        if paused == self._paused:
            return
        if back := self._paused - paused:
            self._consumer.resume([TopicPartition(*one) for one in back])
        if new := paused - self._paused:
            self._consumer.pause([TopicPartition(*one) for one in new])
        self._paused = paused

    def tell_lag(self) -> None:
        """Tells the metrics how far behind the reading is, every few seconds."""
        self._lag.tell(self._partitions)

    def close(self) -> None:
        """Leaves the broker."""
        self._consumer.close()

    def _note_error(self, error: Any) -> None:
        # A broker that is away may have more of a partition than is known.
        self._ends_in_doubt |= {one: self._ends[one] for one in self.at_end}
        self.at_end.clear()
        logger.info("Kafka: %s", error_text(error))


def messages_until_now(settings: KafkaSettings, topics: Collection[str], reader: str) -> Iterator[Any]:
    """The committed messages that topics hold until now.

    Args:
        settings: Where the broker is.
        topics: The topics.
        reader: Who reads, for the name of its consumer group.

    Raises:
        ConfigError: A topic is missing.
        BrokerUnreachable: The broker does not answer.
    """
    partitions = partitions_of(settings, sorted(topics))
    found = PartitionReader(settings, f"{settings.group}-{reader}", partitions, StreamMetrics())
    try:
        found.assign(found.first_offsets())
        last = time.monotonic()
        while len(found.at_end) < len(found.partitions):
            messages = found.read(_BATCH, _READ_SECONDS)
            yield from messages
            if messages:
                last = time.monotonic()
            elif time.monotonic() - last > _SILENCE_SECONDS:
                raise BrokerUnreachable(f"Kafka at {settings.bootstrap_servers} sends no more events")
    finally:
        found.close()
