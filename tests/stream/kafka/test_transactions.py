"""A producer of transactions, on a real broker: whose turn it is changes nothing of what readers see."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from confluent_kafka import Consumer, TopicPartition

from adclick.schema.errors import ConfigError
from adclick.stream.kafka.connection import consumer_options
from adclick.stream.kafka.topics import check_topics
from adclick.stream.kafka.transactions import TransactionalProducer
from adclick.stream.settings import KafkaSettings, TopicsSettings
from adclick.stream.stages.reading import messages_until_now

Topics = Callable[..., TopicsSettings]


@pytest.fixture
def topics(kafka: KafkaSettings, own_topics: Topics) -> TopicsSettings:
    names = own_topics(partitions=1)
    check_topics(kafka, names, make=True)
    return names


@pytest.fixture
def consumer(kafka: KafkaSettings, topics: TopicsSettings) -> Iterator[Consumer]:
    reading = Consumer(consumer_options(kafka, kafka.group))
    reading.assign([TopicPartition(topics.clicks.name, 0, 0)])
    reading.poll(0)
    yield reading
    reading.close()


def commit(producer: TransactionalProducer, consumer: Consumer, topics: TopicsSettings, number: int) -> None:
    producer.produce(topics.scored_clicks.name, b"%d" % number)
    place = TopicPartition(topics.clicks.name, 0, number + 1)
    producer.commit([place], consumer.consumer_group_metadata())


def read(kafka: KafkaSettings, topics: TopicsSettings) -> list[bytes]:
    return [message.value() for message in messages_until_now(kafka, [topics.scored_clicks.name], "test")]


def test_many_one_after_the_other_are_seen_in_order(
    kafka: KafkaSettings, topics: TopicsSettings, consumer: Consumer
) -> None:
    producer = TransactionalProducer(kafka, f"{kafka.group}-test")
    for number in range(40):
        commit(producer, consumer, topics, number)
    assert read(kafka, topics) == [b"%d" % number for number in range(40)]
    (progress,) = consumer.committed([TopicPartition(topics.clicks.name, 0)], timeout=30)
    assert progress.offset == 40


@pytest.mark.parametrize("committed", [0, 1, 2])
def test_what_a_process_left_open_is_undone_by_the_next_of_its_name(
    kafka: KafkaSettings, topics: TopicsSettings, consumer: Consumer, committed: int
) -> None:
    first = TransactionalProducer(kafka, f"{kafka.group}-test")
    for number in range(committed):
        commit(first, consumer, topics, number)
    first.produce(topics.scored_clicks.name, b"left open")
    second = TransactionalProducer(kafka, f"{kafka.group}-test")
    commit(second, consumer, topics, committed)
    with pytest.raises(ConfigError, match="another process has taken the place of this one"):
        first.commit([TopicPartition(topics.clicks.name, 0, 99)], consumer.consumer_group_metadata())
    assert read(kafka, topics) == [b"%d" % number for number in range(committed + 1)]
