"""Where partitions end is known, also after their broker was away."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from adclick.stream.kafka.local_broker import LocalBroker
from adclick.stream.kafka.topics import check_topics
from adclick.stream.metrics import StreamMetrics
from adclick.stream.settings import KafkaSettings, TopicsSettings
from adclick.stream.stages.reading import PartitionReader
from tests.stream.stages import WAIT_SECONDS

Topics = Callable[..., TopicsSettings]


@pytest.fixture
def topic(kafka: KafkaSettings, own_topics: Topics) -> str:
    topics = own_topics()
    check_topics(kafka, topics, make=True)
    return topics.clicks.name


@pytest.fixture
def reader(kafka: KafkaSettings, topic: str) -> Iterator[PartitionReader]:
    one = PartitionReader(kafka, kafka.group, {topic: 2}, StreamMetrics())
    one.assign({})
    yield one
    one.close()


def write(kafka: KafkaSettings, topic: str, values: list[bytes], partition: int = 0) -> None:
    from confluent_kafka import Producer

    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers})
    for value in values:
        producer.produce(topic, value, partition=partition)
    assert producer.flush(WAIT_SECONDS) == 0


def read_until(reader: PartitionReader, done: Callable[[list[Any]], bool]) -> list[Any]:
    values: list[Any] = []
    deadline = time.monotonic() + WAIT_SECONDS
    while not done(values):
        assert time.monotonic() < deadline, f"at end: {reader.at_end}"
        values += [message.value() for message in reader.read(100, 0.1)]
    return values


def test_after_the_broker_was_away_it_is_told_anew_where_partitions_end(
    broker: LocalBroker, kafka: KafkaSettings, topic: str, reader: PartitionReader
) -> None:
    # One partition has events and the other none; both have an end.
    write(kafka, topic, [b"1", b"2"])
    assert read_until(reader, lambda _: len(reader.at_end) == 2) == [b"1", b"2"]
    broker.kill()
    try:
        assert read_until(reader, lambda _: not reader.at_end) == []
    finally:
        broker.start()
    assert read_until(reader, lambda _: len(reader.at_end) == 2) == []
    write(kafka, topic, [b"3"])
    write(kafka, topic, [b"4"], partition=1)
    values = read_until(reader, lambda values: len(values) == 2 and len(reader.at_end) == 2)
    assert sorted(values) == [b"3", b"4"]
