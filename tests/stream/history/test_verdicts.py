"""Verdicts of a topic, on a real broker: they hold over those of files, the last on a click over the others."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from adclick.schema.errors import ConfigError
from adclick.stream.history.backfill import verdicts_of
from adclick.stream.settings import HistorySettings, KafkaSettings, TopicSettings, TopicsSettings
from tests.stream.stages import WAIT_SECONDS, make_project

pytestmark = pytest.mark.end_to_end


def send(kafka: KafkaSettings, topic: str, values: list[Any]) -> None:
    """Each a millisecond after the one before, in turn to both partitions."""
    from confluent_kafka import Producer

    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers})
    for number, value in enumerate(values):
        data = value if isinstance(value, bytes) else json.dumps(value).encode()
        producer.produce(topic, data, partition=number % 2, timestamp=1_790_000_000_000 + number)
    assert producer.flush(WAIT_SECONDS) == 0


def test_verdicts_of_a_topic(tmp_path: Path, kafka: KafkaSettings, own_topics: Callable[..., TopicsSettings]) -> None:
    topics = own_topics()
    verdicts = TopicSettings(name=f"verdicts-of-{topics.clicks.name}", partitions=2)
    topics = topics.model_copy(update={"verdicts": verdicts})
    file = tmp_path / "verdicts.csv"
    file.write_text("click_id,is_fraud\na,0\nb,1\n")
    project = make_project(tmp_path, kafka, topics, model=False, history={"verdicts": str(file)})
    send(
        kafka,
        verdicts.name,
        [
            {"click_id": "c", "is_fraud": True},
            {"click_id": "a", "is_fraud": 1},
            {"click_id": "a", "is_fraud": 0},
            {"click_id": "a", "is_fraud": 1},
            b"{",
            {"click_id": "d"},
            [1],
            {"click_id": "d", "is_fraud": None},
        ],
    )
    found = verdicts_of(project.stream, project.config.features)
    assert found is not None
    assert found.labels == {"a": "1", "b": "1", "c": "true"}
    assert (found.number, found.changed, found.rejected) == (6, 3, 4)
    assert found.first_rejected is not None
    assert found.first_rejected.startswith(f"topic {verdicts.name}, partition 0, offset 2: not JSON")
    assert "4 messages are no verdicts" in found.faults[0]


def test_a_topic_that_is_not_there_is_said(kafka: KafkaSettings, tmp_path: Path) -> None:
    topics = TopicsSettings(verdicts=TopicSettings(name="no-such-topic"))
    project = make_project(tmp_path, kafka, TopicsSettings(), model=False)
    stream = project.stream.model_copy(update={"topics": topics})
    with pytest.raises(ConfigError, match="no topic no-such-topic"):
        verdicts_of(stream, project.config.features)


def test_without_files_and_topic_clicks_hold_their_labels(kafka: KafkaSettings, tmp_path: Path) -> None:
    project = make_project(tmp_path, kafka, TopicsSettings(), model=False)
    assert project.stream.history == HistorySettings()
    assert verdicts_of(project.stream, project.config.features) is None
