"""The demo over Kafka: a broker of this machine, the stages in threads, and a reader of their topics."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from adclick.pipeline.config.settings import Config
from adclick.pipeline.stream.command import deployment_of
from adclick.schema.errors import AdclickError
from adclick.stream.alerts.alert import read_alert
from adclick.stream.clicks import read_scored
from adclick.stream.demo import Tally, batches
from adclick.stream.events import Event, iso_time
from adclick.stream.features.operator import FeatureOperator
from adclick.stream.history.backfill import HISTORY_POSITION
from adclick.stream.kafka.local_broker import local_broker
from adclick.stream.kafka.topics import check_topics, wanted_topics
from adclick.stream.metrics import StreamMetrics
from adclick.stream.runner import STAGES, Deployment, StageName, run_stream
from adclick.stream.settings import KafkaSettings, StreamSettings, TopicsSettings
from adclick.stream.state.rocksdb import RocksState

_START_SECONDS = 180.0
_DRAIN_SECONDS = 30.0
_PAUSE_SECONDS = 0.1
_IDLE = "500ms"


@contextmanager
def kafka_player(
    config: Config,
    settings: StreamSettings,
    before: Sequence[Event],
    played: Sequence[Event],
    rate: float,
    tally: Tally,
    work: Path,
    console: Console,
    *,
    flink: bool,
) -> Iterator[Iterator[None]]:
    """Starts broker and stages; yields what plays the events and fills the tally, a step at a time.

    Raises:
        ConfigError: Java or Maven are missing, or, with `flink`, PyFlink is.
        AdclickError: The stages did not start.
    """
    with local_broker(work / "kafka", tell=console.print) as broker, ExitStack() as stack:
        kafka = KafkaSettings(bootstrap_servers=broker.bootstrap_servers)
        settings = _as_played(settings, kafka, played, rate)
        check_topics(kafka, settings.topics, make=True)
        threads = Threads()
        stack.callback(threads.stop)
        stages: tuple[tuple[StageName, ...], ...] = (STAGES,)
        if flink:
            from adclick.pipeline.stream.flink_demo import flink_features

            stages = (("score",), ("alerts",))
            settings = stack.enter_context(flink_features(config, settings, before, work, console, threads))
        else:
            console.print(f"Going through the {len(before):,} events before …")
            _go_through(settings, before, work / "state")
        for names in stages:
            deployment = deployment_of(config, settings, work / "state", stages=names, instance="demo")
            ready = threading.Event()
            threads.start(partial(_run, deployment, ready))
            threads.wait(ready.is_set, f"the stream ({', '.join(names)}) did not start", _START_SECONDS)
        yield _play(settings, config, played, rate, tally, threads)


class Threads:
    """What runs beside the player; a failure of one is everyone's."""

    def __init__(self) -> None:
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []
        self._failures: list[BaseException] = []

    def start(self, run: Callable[[threading.Event], None]) -> None:
        """Runs something that ends when the event that it is given is set."""

        def guarded() -> None:
            try:
                run(self._stopping)
            except BaseException as error:
                self._failures.append(error)

        thread = threading.Thread(target=guarded, name="stream", daemon=True)
        thread.start()
        self._threads.append(thread)

    def check(self) -> None:
        """Raises what one of them failed of."""
        if self._failures:
            raise self._failures[0]

    def wait(self, is_so: Callable[[], bool], failure: str, seconds: float) -> None:
        """Waits until it is so.

        Raises:
            AdclickError: It was not in time.
        """
        deadline = time.monotonic() + seconds
        while not is_so():
            self.check()
            if time.monotonic() > deadline:
                raise AdclickError(f"{failure} within {seconds:.0f} s")
            time.sleep(_PAUSE_SECONDS)

    def stop(self) -> None:
        """Ends all, and waits for them."""
        self._stopping.set()
        for thread in self._threads:
            thread.join(_DRAIN_SECONDS)


def _run(deployment: Deployment, ready: threading.Event, stopping: threading.Event) -> None:
    run_stream(deployment, stopping, StreamMetrics(), ready.set)


def _go_through(settings: StreamSettings, before: Sequence[Event], state: Path) -> None:
    """Leaves the state of the features after events, for the stream to go on from."""
    store = RocksState(state)
    operator = FeatureOperator(settings, store)
    for event in before:
        operator.process(event)
    operator.commit(HISTORY_POSITION)
    store.close()


def _play(
    settings: StreamSettings,
    config: Config,
    played: Sequence[Event],
    rate: float,
    tally: Tally,
    threads: Threads,
) -> Iterator[None]:
    from confluent_kafka import Consumer, Producer

    servers = settings.kafka.bootstrap_servers
    producer = Producer({"bootstrap.servers": servers, "enable.idempotence": True, "linger.ms": 0})
    consumer = Consumer(
        {
            "bootstrap.servers": servers,
            "group.id": "demo",
            "isolation.level": "read_committed",
            "auto.offset.reset": "earliest",
            "fetch.wait.max.ms": 50,
            "fetch.queue.backoff.ms": 5,
        }
    )
    topics = settings.topics
    consumer.subscribe([topics.scored_clicks.name, topics.alerts.name])
    sent: dict[str, float] = {}
    clicks = sum(event.kind == "clicks" for event in played)

    def receive(timeout: float) -> None:
        for message in consumer.consume(2_000, timeout):
            if message.error() is not None:
                continue
            if message.topic() == topics.alerts.name:
                tally.take([], [read_alert(message.value())])
                continue
            scored = read_scored(message.value())
            tally.delays.append(time.monotonic() - sent.get(scored.click.id, time.monotonic()))
            tally.take([scored], [])

    writers = {kind: event_writer(settings, config, kind) for kind in ("impressions", "clicks")}
    try:
        for due in batches(len(played), rate):
            for event in played[due]:
                if event.kind == "clicks":
                    sent[event.id] = time.monotonic()
                topic = topics.clicks if event.kind == "clicks" else topics.impressions
                producer.produce(topic.name, json.dumps(writers[event.kind](event)).encode())
            producer.poll(0)
            tally.events = due.stop
            receive(0)
            threads.check()
            yield
        producer.flush(_DRAIN_SECONDS)
        end = time.monotonic() + _DRAIN_SECONDS
        while tally.clicks < clicks and time.monotonic() < end:
            threads.check()
            receive(0.1)
            yield
    finally:
        consumer.close()


def _as_played(settings: StreamSettings, kafka: KafkaSettings, played: Sequence[Event], rate: float) -> StreamSettings:
    """The stream as it is played here: over this broker, and faster than it was.

    So many times faster than events came, so many times longer may one be out of order by the time of events.
    """
    iso = {"time_format": "iso8601"}
    events = {"clicks": settings.events.clicks.model_copy(update=iso)}
    if settings.events.impressions is not None:
        events["impressions"] = settings.events.impressions.model_copy(update=iso)
    faster = (played[-1].time - played[0].time) / 1_000_000 / max(len(played) / rate, 1e-9) if played else 1.0
    topics = {key: {**topic.model_dump(), "partitions": 1} for key, topic in wanted_topics(settings.topics).items()}
    return settings.model_copy(
        update={
            "kafka": kafka,
            "events": settings.events.model_copy(update=events),
            "topics": TopicsSettings(**topics),
            "max_out_of_orderness": f"{max(settings.disorder, settings.disorder * faster) / 1_000_000:.6f}s",
            "idle_after": _IDLE,
        }
    )


def event_writer(settings: StreamSettings, config: Config, kind: str) -> Callable[[Event], dict[str, Any]]:
    """Writes an event as its source would."""
    events = settings.events.clicks if kind == "clicks" else settings.events.impressions
    assert events is not None
    sources = config.features

    def write(event: Event) -> dict[str, Any]:
        fields = {
            sources.source_of(name) if name in sources.root else name: value for name, value in event.fields.items()
        }
        named = {} if events.id is None else {events.id: event.id}
        return {**fields, **named, events.time: iso_time(event.time)}

    return write
