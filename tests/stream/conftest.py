"""A real broker for all tests of a process: Apache Kafka on this machine."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import pytest

from adclick.schema.errors import ConfigError
from adclick.stream.kafka.local_broker import LocalBroker, local_broker
from adclick.stream.settings import KafkaSettings, TopicSettings, TopicsSettings

_NUMBERS = itertools.count()


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalBroker]:
    """A broker that answers; skips the test, with the reason, where Java or Maven are missing."""
    try:
        running = local_broker(tmp_path_factory.mktemp("kafka"))
        with running as one:
            yield one
    except ConfigError as error:
        pytest.skip(str(error))


@pytest.fixture
def kafka(broker: LocalBroker) -> KafkaSettings:
    """The broker's address, and a consumer group of the test's own."""
    return KafkaSettings(bootstrap_servers=broker.bootstrap_servers, group=f"group-{next(_NUMBERS)}")


@pytest.fixture
def own_topics() -> Callable[..., TopicsSettings]:
    """Makes names of topics that no other test uses."""

    def make(partitions: int = 2) -> TopicsSettings:
        number = next(_NUMBERS)
        defaults = TopicsSettings()
        return TopicsSettings(
            **{
                key: TopicSettings(name=f"{value.name}-{number}", partitions=partitions)
                for key in TopicsSettings.model_fields
                if isinstance(value := getattr(defaults, key), TopicSettings)
            }
        )

    return make
