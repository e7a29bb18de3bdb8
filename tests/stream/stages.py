"""What tests of the stages share: a config, a fraud model, clicks with a wave of fraud, what Kafka holds of them."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from adclick.pipeline.config.settings import Config, load_config
from adclick.stream.events import iso_time
from adclick.stream.kafka.topics import check_topics
from adclick.stream.runner import Stage
from adclick.stream.settings import KafkaSettings, StreamSettings, TopicSettings, TopicsSettings

#: 2026-11-01, in microseconds since 1970.
BEGIN = 1_793_491_200_000_000
WAIT_SECONDS = 120.0


def write_fraud_model(base: Path, version: int, *, weight: float = 1.0, threshold: float | None = 0.5) -> None:
    """A SavedModel whose fraud probability is sigmoid(weight · (clicks of the ip in a minute - 10)), explained."""
    import tensorflow as tf

    class Model(tf.Module):
        @tf.function(
            input_signature=[tf.TensorSpec([None], tf.string, "ip"), tf.TensorSpec([None], tf.float32, "clicks_by_ip")]
        )
        def score(self, ip: Any, clicks_by_ip: Any) -> Any:
            return {"click_probability": tf.sigmoid(self.logit(ip, clicks_by_ip))}

        @tf.function(
            input_signature=[tf.TensorSpec([None], tf.string, "ip"), tf.TensorSpec([None], tf.float32, "clicks_by_ip")]
        )
        def explain(self, ip: Any, clicks_by_ip: Any) -> Any:
            logit = self.logit(ip, clicks_by_ip)
            baseline = tf.zeros_like(logit) - 10 * weight
            return {
                "columns": tf.repeat([["ip", "clicks_by_ip"]], tf.shape(logit)[0], axis=0),
                "contributions": tf.stack([tf.zeros_like(logit), logit - baseline], 1),
                "logit": logit,
                "baseline_logit": baseline,
            }

        def logit(self, ip: Any, clicks: Any) -> Any:
            unused = 0 * tf.cast(tf.strings.length(ip), tf.float32)
            return weight * (tf.where(tf.math.is_nan(clicks), 0.0, clicks) - 10) + unused

    model = Model()
    work = base / f".{version}"
    tf.saved_model.save(model, str(work), signatures={"serving_default": model.score, "explain": model.explain})
    (work / "assets.extra").mkdir()
    thresholds = {} if threshold is None else {"0.001": threshold, "0.01": threshold / 2}
    (work / "assets.extra" / "adclick.json").write_text(json.dumps({"fraud_thresholds": thresholds}))
    work.rename(base / str(version))


@dataclass
class Project:
    """A config file and what it says.

    Attributes:
        file: The config file.
        config: What it says.
    """

    file: Path
    config: Config

    @property
    def stream(self) -> StreamSettings:
        assert self.config.stream is not None
        return self.config.stream

    def make_topics(self) -> None:
        check_topics(self.stream.kafka, self.stream.topics, make=True)


def make_project(
    folder: Path, kafka: KafkaSettings, topics: TopicsSettings, *, model: bool = True, **stream: Any
) -> Project:
    """A config whose model is pushed, and the topics of it."""
    document = {
        "data": {"root": str(folder / "data")},
        "output": str(folder / "output"),
        "features": {
            "click_id": {"role": "identifier"},
            "time": {"role": "timestamp"},
            "is_fraud": {"role": "label"},
            "ip": {"role": "categorical"},
            "cost": {"role": "ignored"},
        },
        "stream": {
            "kafka": kafka.model_dump(mode="json", exclude_unset=True),
            "topics": topics.model_dump(),
            "events": {"impressions": {"id": "impression_id"}},
            "features": {
                "clicks_by_ip": {"kind": "count", "by": ["ip"], "window": "1m"},
                "impressions_by_ip": {"kind": "count", "by": ["ip"], "window": "1m", "of": "impressions"},
            },
            "alerts": {"entities": [["ip"]], "cost": "cost", "quiet": "1m"},
            "scorer": {"poll_seconds": 0.2},
            # A busy machine lets a partition wait, whose events would come late.
            "idle_after": "5s",
            **stream,
        },
    }
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "config.yaml"
    file.write_text(yaml.safe_dump(document))
    project = Project(file, load_config(file))
    if model:
        write_fraud_model(Path(project.config.push_base), 1)
    project.make_topics()
    return project


def traffic(count: int, *, seed: int = 1, begin: int = BEGIN, step: int = 10_000) -> list[dict[str, Any]]:
    """Events a hundredth of a second apart, half impressions, half clicks; in the last third a wave from one ip.

    Each has its topic's key under `kind`; out of order by less than the 20 ms that are allowed.
    """
    source = random.Random(seed)
    events = []
    for number in range(count):
        kind = "clicks" if number % 2 else "impressions"
        ip = f"10.0.{source.randrange(40)}.{source.randrange(256)}"
        if kind == "clicks" and number > count * 2 / 3 and number % 4 == 1:
            ip = "6.6.6.6"
        moment = begin + number * step - source.randrange(5_000)
        event = {"kind": kind, "time": iso_time(moment), "ip": ip, "impression_id": f"i{number - number % 2}"}
        if kind == "clicks":
            event |= {"click_id": f"c{number}", "cost": 0.25}
        events.append(event)
    return events


def produce(project: Project, events: Sequence[Mapping[str, Any]], rate: float | None = None) -> None:
    """Sends events, each to the partition that its number says."""
    from confluent_kafka import Producer

    topics = project.stream.topics
    # Without idempotence what is sent again comes after what was sent later, and is late.
    options = {"linger.ms": 5, "enable.idempotence": True}
    producer = Producer({"bootstrap.servers": project.stream.kafka.bootstrap_servers, **options})
    begun = time.monotonic()
    for number, event in enumerate(events):
        if rate is not None:
            time.sleep(max(0.0, begun + number / rate - time.monotonic()))
        topic = topics.clicks if event["kind"] == "clicks" else topics.impressions
        value = event["raw"] if "raw" in event else json.dumps(event).encode()
        producer.produce(topic.name, value, partition=(number // 2) % topic.partitions)
        producer.poll(0)
    assert producer.flush(60) == 0


def messages(kafka: KafkaSettings, topic: str, count: int, seconds: float = WAIT_SECONDS) -> list[Any]:
    """The committed messages of a topic, once there are so many and the topic is at its end."""
    from confluent_kafka import Consumer, KafkaError, TopicPartition

    consumer = Consumer(
        {
            "bootstrap.servers": kafka.bootstrap_servers,
            "group.id": "reader-of-tests",
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
        }
    )
    partitions = consumer.list_topics(topic, timeout=60).topics[topic].partitions
    consumer.assign([TopicPartition(topic, number, 0) for number in partitions])
    found: list[Any] = []
    at_end: set[int] = set()
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and (len(found) < count or len(at_end) < len(partitions)):
        message = consumer.poll(0.5)
        if message is None:
            continue
        if message.error() is None:
            at_end.discard(message.partition())
            found.append(message)
        elif message.error().code() == KafkaError._PARTITION_EOF:
            at_end.add(message.partition())
    consumer.close()
    return found


def documents(kafka: KafkaSettings, topic: str, count: int) -> list[dict[str, Any]]:
    """The JSON of a topic's committed messages, see `messages`."""
    return [json.loads(message.value()) for message in messages(kafka, topic, count)]


def written(kafka: KafkaSettings, topic: TopicSettings) -> int:
    """How much is in a topic, in the middle of transactions or not."""
    from confluent_kafka import Consumer, KafkaException, TopicPartition

    consumer = Consumer({"bootstrap.servers": kafka.bootstrap_servers, "group.id": "watcher-of-tests"})
    places = [TopicPartition(topic.name, number) for number in range(topic.partitions)]
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        try:
            found = sum(consumer.get_watermark_offsets(place, timeout=10)[1] for place in places)
            break
        except KafkaException:
            # A broker that has just started knows nothing for a while.
            assert time.monotonic() < deadline
            time.sleep(0.2)
    consumer.close()
    return found


def drive(stages: Sequence[Stage], until: Callable[[], bool], seconds: float = WAIT_SECONDS) -> None:
    """Lets stages take turns until it is so."""
    deadline = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < deadline, "waited in vain"
        for stage in stages:
            stage.step()
