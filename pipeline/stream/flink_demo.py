"""The demo's features on Flink: a cluster of this machine, which has seen what came before."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from adclick.pipeline.config.settings import Config
from adclick.pipeline.stream.flink import run_features
from adclick.pipeline.stream.kafka_demo import Threads, event_writer
from adclick.schema.errors import AdclickError
from adclick.stream.events import Event
from adclick.stream.features.key_state import features_by_key
from adclick.stream.flink.local_cluster import local_cluster
from adclick.stream.kafka.connection import consumer_options
from adclick.stream.settings import StreamSettings
from adclick.stream.stages.members import scorer_group

_SEND_SECONDS = 60.0
#: The tasks' first start, with Python's imports, is among it.
_SILENCE_SECONDS = 300.0


@contextmanager
def flink_features(
    config: Config,
    settings: StreamSettings,
    before: Sequence[Event],
    work: Path,
    console: Console,
    threads: Threads,
) -> Iterator[StreamSettings]:
    """Starts a cluster and the job, which goes through earlier events first; scorers begin after these.

    The job begins with what Kafka holds. So the earlier events are sent there: those that features may still know of.

    Yields:
        The stream as it is run.

    Raises:
        ConfigError: Java, Maven or PyFlink are missing.
        AdclickError: The cluster or the job does not start.
    """
    flink = settings.flink.model_copy(update={"python": sys.executable, "checkpoints": str(work / "checkpoints")})
    settings = settings.model_copy(update={"flink": flink})
    known = _known(settings, before)
    clicks = _send(settings, config, known)
    with local_cluster(work / "flink", slots=flink.parallelism, tell=console.print) as local:
        console.print(f"Going through the {len(known):,} events before that features know of, on Flink …")
        threads.start(lambda stopping: run_features(config, settings, local.cluster, stopping))
        _skip(settings, clicks, threads)
        try:
            yield settings
        finally:
            threads.stop()


def _known(settings: StreamSettings, before: Sequence[Event]) -> Sequence[Event]:
    """The last of the events: those that the features of a later one may depend on."""
    horizons = [keyed.horizon for keyed in features_by_key(settings.features)]
    horizon = max([*horizons, settings.impression_window])
    # What a click's impression gives a feature is known for as long as the feature is, after the click.
    first = before[-1].time - 2 * horizon if before else 0
    return [event for event in before if event.time >= first]


def _send(settings: StreamSettings, config: Config, events: Sequence[Event]) -> int:
    """Sends events, and says how many are clicks."""
    from confluent_kafka import Producer

    topics = {"clicks": settings.topics.clicks.name, "impressions": settings.topics.impressions.name}
    writers = {kind: event_writer(settings, config, kind) for kind in {event.kind for event in events}}
    producer = Producer(
        {
            "bootstrap.servers": settings.kafka.bootstrap_servers,
            "enable.idempotence": True,
            "queue.buffering.max.messages": len(events) + 1,
        }
    )
    for event in events:
        producer.produce(topics[event.kind], json.dumps(writers[event.kind](event)).encode())
    if left := producer.flush(_SEND_SECONDS):
        raise AdclickError(f"{left:,} of {len(events):,} events were not taken by Kafka in {_SEND_SECONDS:.0f} s")
    return sum(event.kind == "clicks" for event in events)


def _skip(settings: StreamSettings, clicks: int, threads: Threads) -> None:
    """Waits until so many clicks have their features, and lets scorers begin after them."""
    from confluent_kafka import Consumer, TopicPartition

    topic = settings.topics.featured_clicks
    consumer = Consumer(consumer_options(settings.kafka, scorer_group(settings)))
    try:
        consumer.assign([TopicPartition(topic.name, 0, 0)])
        seen, heard = 0, time.monotonic()
        while seen < clicks:
            threads.check()
            count = sum(message.error() is None for message in consumer.consume(5_000, 0.5))
            seen += count
            if count:
                heard = time.monotonic()
            elif time.monotonic() - heard > _SILENCE_SECONDS:
                raise AdclickError(f"Flink gave features to {seen:,} of {clicks:,} clicks, and then to none for long")
        consumer.commit(offsets=consumer.position([TopicPartition(topic.name, 0)]), asynchronous=False)
    finally:
        consumer.close()
