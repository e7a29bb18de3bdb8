"""`adclick stream topics` on a real broker."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from adclick.pipeline.cli.app import app
from adclick.schema.errors import AdclickError, ConfigError
from adclick.stream.kafka.topics import check_topics
from adclick.stream.settings import KafkaSettings, TopicsSettings

pytestmark = pytest.mark.end_to_end


def config_file(folder: Path, kafka: KafkaSettings, topics: TopicsSettings) -> Path:
    file = folder / "config.yaml"
    document = {
        "data": {"root": str(folder / "data")},
        "output": str(folder / "output"),
        "features": {
            "click_id": {"role": "identifier"},
            "time": {"role": "timestamp"},
            "is_fraud": {"role": "label"},
            "ip": {"role": "categorical"},
        },
        "stream": {
            "kafka": {"bootstrap_servers": kafka.bootstrap_servers},
            "topics": topics.model_dump(),
        },
    }
    file.write_text(yaml.safe_dump(document))
    return file


def test_topics_are_made_once_and_then_compared(
    tmp_path: Path, kafka: KafkaSettings, own_topics: Callable[..., TopicsSettings]
) -> None:
    topics = own_topics(partitions=3)
    file = config_file(tmp_path, kafka, topics)
    run = lambda *more: CliRunner().invoke(app, ["stream", "topics", "--config", str(file), *more])  # noqa: E731
    missing = run("--check")
    assert isinstance(missing.exception, ConfigError) and topics.clicks.name in missing.exception.message
    made = run()
    assert made.exit_code == 0, made
    assert made.output.count("made") == 6 and f"{topics.clicks.name}" in made.output
    again = run("--check")
    assert again.exit_code == 0 and "made" not in again.output
    other = topics.model_copy(update={"clicks": topics.clicks.model_copy(update={"partitions": 5, "retention": "1d"})})
    (wrong,) = (state for state in check_topics(kafka, other, make=True) if state.wrong)
    assert wrong.name == topics.clicks.name
    assert "has 3 partitions, the config says 5" in wrong.wrong and "604800000 ms" in wrong.wrong


def test_more_replicas_than_brokers_are_refused_in_words(
    kafka: KafkaSettings, own_topics: Callable[..., TopicsSettings]
) -> None:
    topics = own_topics().model_copy(update={"replication_factor": 3})
    with pytest.raises(ConfigError, match=r"cannot be made.*\n.*replication_factor"):
        check_topics(kafka, topics, make=True)


def test_a_broker_that_does_not_answer_is_named(
    monkeypatch: pytest.MonkeyPatch, own_topics: Callable[..., TopicsSettings]
) -> None:
    monkeypatch.setattr("adclick.stream.kafka.connection.ANSWER_SECONDS", 1.0)
    with pytest.raises(AdclickError, match=r"Kafka at 127\.0\.0\.1:1 does not answer") as caught:
        check_topics(KafkaSettings(bootstrap_servers="127.0.0.1:1"), own_topics(), make=False)
    assert caught.value.exit_code == 2
