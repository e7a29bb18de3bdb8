"""The topics of the stream: made as the config says, and checked against it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from adclick.schema.errors import ConfigError
from adclick.schema.times import microseconds_of
from adclick.stream.kafka.connection import ANSWER_SECONDS, Administration, error_text
from adclick.stream.settings import KafkaSettings, TopicSettings, TopicsSettings


@dataclass(frozen=True)
class TopicState:
    """A topic as it is.

    Attributes:
        name: Its name.
        partitions: How many it has; 0 if it does not exist.
        retention: `retention.ms` as the broker has it; None if it does not exist.
        wrong: Where it differs from the config, in words; empty if it does not.
        made: Whether it was made just now.
    """

    name: str
    partitions: int
    retention: int | None
    wrong: str = ""
    made: bool = False


def wanted_topics(topics: TopicsSettings) -> dict[str, TopicSettings]:
    """All topics by the key that the config has for them."""
    return {
        key: value for key in TopicsSettings.model_fields if isinstance(value := getattr(topics, key), TopicSettings)
    }


def partitions_of(kafka: KafkaSettings, names: list[str]) -> dict[str, int]:
    """How many partitions topics have.

    Raises:
        ConfigError: One does not exist.
        BrokerUnreachable: The broker does not answer.
    """
    found = Administration(kafka).partitions()
    missing = [name for name in names if name not in found]
    if missing:
        raise ConfigError(f"there is no topic {', '.join(missing)}", "Make them: adclick stream topics --config …")
    return {name: found[name] for name in names}


def check_topics(kafka: KafkaSettings, topics: TopicsSettings, *, make: bool) -> list[TopicState]:
    """Compares the broker's topics with the config.

    Args:
        kafka: Where the broker is.
        topics: What there should be.
        make: Whether those that are missing are made. What exists is never changed: partitions decide where an event
            of a key lies, and less retention would delete events.

    Raises:
        ConfigError: The broker refuses to make one.
        BrokerUnreachable: It does not answer.
    """
    admin = Administration(kafka)
    wanted = {topic.name: topic for topic in wanted_topics(topics).values()}
    before = admin.partitions()
    missing = {name: topic for name, topic in wanted.items() if name not in before}
    if make and missing:
        _make(admin.client, missing, topics.replication_factor)
    existing = before | {name: topic.partitions for name, topic in missing.items() if make}
    retentions = _retentions(admin, [name for name in wanted if name in existing])
    return [
        _state(name, topic, existing.get(name, 0), retentions.get(name), made=make and name in missing)
        for name, topic in wanted.items()
    ]


def _state(name: str, topic: TopicSettings, partitions: int, retention: int | None, *, made: bool) -> TopicState:
    wrong = []
    if not partitions:
        wrong.append("does not exist")
    elif partitions != topic.partitions:
        wrong.append(f"has {partitions} partitions, the config says {topic.partitions}")
    if retention is not None and retention != _milliseconds(topic):
        wrong.append(f"keeps events for {retention} ms, the config says {_milliseconds(topic)} ({topic.retention})")
    return TopicState(name, partitions, retention, "; ".join(wrong), made)


def _milliseconds(topic: TopicSettings) -> int:
    return microseconds_of(topic.retention) // 1000


def _make(admin: Any, topics: Mapping[str, TopicSettings], replication_factor: int) -> None:
    from confluent_kafka import KafkaError, KafkaException
    from confluent_kafka.admin import NewTopic

    futures = admin.create_topics(
        [
            NewTopic(name, topic.partitions, replication_factor, config={"retention.ms": str(_milliseconds(topic))})
            for name, topic in topics.items()
        ],
        operation_timeout=ANSWER_SECONDS,
    )
    for name, future in futures.items():
        try:
            future.result(ANSWER_SECONDS)
        except KafkaException as error:
            # Another process may have made it in the meantime.
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise ConfigError(
                    f"topic {name} cannot be made: {error_text(error)}",
                    "Is stream.topics.replication_factor above the number of brokers, or lacks this account the right?",
                ) from None


def _retentions(admin: Administration, names: list[str]) -> dict[str, int]:
    from confluent_kafka import KafkaError, KafkaException
    from confluent_kafka.admin import ConfigResource

    if not names:
        return {}
    deadline = time.monotonic() + ANSWER_SECONDS
    while True:
        futures = admin.client.describe_configs([ConfigResource(ConfigResource.Type.TOPIC, name) for name in names])
        try:
            return {
                resource.name: int(future.result(ANSWER_SECONDS)["retention.ms"].value)
                for resource, future in futures.items()
            }
        except KafkaException as error:
            # A broker may not know yet what another has just made.
            if error.args[0].code() != KafkaError.UNKNOWN_TOPIC_OR_PART or time.monotonic() > deadline:
                raise admin.unreachable(error) from None
            time.sleep(0.1)
