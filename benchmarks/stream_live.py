"""How soon and how fast clicks are judged over Kafka, on one machine: broker, stream and load beside each other.

Events are those of sample traffic with their times moved to now, with eight features; the model is the one that
`adclick run` makes of the same traffic. The baselines are limits that must be kept.
"""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
import yaml

from adclick.pipeline.config.settings import load_config
from adclick.stream.events import iso_time
from adclick.stream.kafka.local_broker import LocalBroker, local_broker
from adclick.stream.kafka.topics import check_topics
from adclick.stream.settings import StreamSettings
from benchmarks.measure import ROOT, Result, more, python_module, report, share, timed_process

FEATURES = (
    "clicks_1m_by_ip",
    "clicks_1h_by_ip",
    "devices_1d_by_ip",
    "clicks_1h_by_device",
    "sites_1d_by_device",
    "seconds_since_click_of_device",
    "time_to_click",
    "share_with_impression_1d_by_site",
)
_WAIT_SECONDS = 300.0
_LATENCY_RATE = 1000


def prepare(folder: Path) -> None:
    """Sample traffic, its config with eight features, and the model that `adclick run` makes of it."""
    timed_process(python_module("adclick", "sample-data", "--stream", "--output", str(folder), "--rows", "30000"))
    file = folder / "config.yaml"
    document = yaml.safe_load(file.read_text())
    features = document["stream"]["features"]
    document["stream"]["features"] = {name: features[name] for name in FEATURES}
    # Whether the model is good is another benchmark's question.
    document["evaluation"] = {"thresholds": [{"metric": "auc", "lower": 0.52}]}
    file.write_text(yaml.safe_dump(document, sort_keys=False))
    timed_process(python_module("adclick", "stream", "backfill", "--config", str(file)))
    timed_process(python_module("adclick", "run", "--config", str(file)))


def events_of(folder: Path, count: int) -> list[tuple[str, dict[str, Any]]]:
    """Topics' keys and events in the order of their time, as many as are asked for, again and again."""
    found = []
    for kind in ("impressions", "clicks"):
        for file in sorted((folder / "events" / kind).glob("*.jsonl.gz")):
            with gzip.open(file, "rt") as lines:
                found += [(kind, json.loads(line)) for line in lines]
    found.sort(key=lambda pair: pair[1]["time"])
    found = found[len(found) // 2 :]
    return [
        (kind, {**event, f"{kind[:-1]}_id": f"{number // len(found)}-{event[f'{kind[:-1]}_id']}"})
        for number in range(count)
        for kind, event in [found[number % len(found)]]
    ]


class Load:
    """A project on a broker of this machine, with topics of its own.

    Args:
        folder: Traffic, model and config.
        broker: The broker.
        name: Of topics and group.
        flink: The config's `stream.flink`.
        alerts: The config's `stream.alerts`.
    """

    def __init__(
        self,
        folder: Path,
        broker: LocalBroker,
        name: str,
        *,
        flink: Mapping[str, Any] | None = None,
        **alerts: Any,
    ) -> None:
        document = yaml.safe_load((folder / "config.yaml").read_text())
        topics = {
            key: {"name": f"{key}-{name}".replace("_", "-"), "partitions": 1}
            for key in ("impressions", "clicks", "featured_clicks", "scored_clicks", "alerts", "rejected_events")
        }
        kafka = {"bootstrap_servers": broker.bootstrap_servers, "group": name}
        document["stream"] |= {"topics": topics, "kafka": kafka, "alerts": alerts, "flink": dict(flink or {})}
        self.file = folder / f"config-{name}.yaml"
        self.file.write_text(yaml.safe_dump(document))
        self.state = folder / f"state-{name}"
        settings = load_config(self.file).stream
        assert settings is not None
        self.settings: StreamSettings = settings
        check_topics(settings.kafka, settings.topics, make=True)

    def topic(self, key: str) -> str:
        return str(getattr(self.settings.topics, key).name)

    def producer(self, **options: Any) -> Any:
        from confluent_kafka import Producer

        servers = self.settings.kafka.bootstrap_servers
        return Producer({"bootstrap.servers": servers, "enable.idempotence": True, **options})

    def consumer(self, *keys: str) -> Any:
        from confluent_kafka import Consumer, TopicPartition

        options = {"isolation.level": "read_committed", "fetch.wait.max.ms": 100, "fetch.queue.backoff.ms": 5}
        consumer = Consumer(
            {"bootstrap.servers": self.settings.kafka.bootstrap_servers, "group.id": "benchmark", **options}
        )
        consumer.assign([TopicPartition(self.topic(key), 0, 0) for key in keys])
        return consumer

    @contextmanager
    def running(self, *options: str) -> Iterator[subprocess.Popen[bytes]]:
        """`adclick stream run` with options, in a process of its own."""
        command = python_module("adclick", "stream", "run", "--config", str(self.file), *options)
        log = self.file.with_name(f"{self.file.stem}{''.join(options)}.log".replace("/", "-"))
        with log.open("w") as stream:
            process = subprocess.Popen(
                [*command, "--metrics-port", "0", "--state", str(self.state)], stderr=stream, cwd=ROOT
            )
        try:
            deadline = time.monotonic() + _WAIT_SECONDS
            while "reading from" not in log.read_text():
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(log.read_text()[-3000:])
                time.sleep(0.1)
            yield process
        finally:
            process.terminate()
            process.wait(60)


def latency(folder: Path, broker: LocalBroker, seconds: int, threshold: float) -> tuple[float, float, int]:
    """What `time_to_alert` says of one process; each suspicious click is an alert, with its evidence."""
    load = Load(folder, broker, f"latency-{time.time_ns()}", threshold=threshold, minimum_clicks=1)
    return time_to_alert(load, folder, load.running("--stages", "features,score,alerts"), _LATENCY_RATE, seconds)


def time_to_alert(
    load: Load, folder: Path, running: AbstractContextManager[Any], rate: int, seconds: int
) -> tuple[float, float, int]:
    """Median and 99th percentile of the time from producing a click to reading its alert, in ms; how many alerts.

    The first quarter warms up and does not count.

    Args:
        load: Where the events go.
        folder: Traffic to send.
        running: The stages.
        rate: Events a second.
        seconds: For how long.
    """
    events = events_of(folder, seconds * rate)
    sent: dict[str, float] = {}
    read: dict[str, float] = {}
    judged = 0
    done = threading.Event()

    def receive() -> None:
        nonlocal judged
        consumer = load.consumer("alerts", "scored_clicks")
        while not done.is_set():
            message = consumer.poll(0.2)
            if message is not None and message.error() is None:
                now = time.time()
                if message.topic() == load.topic("alerts"):
                    read[json.loads(message.value())["last_click"]] = now
                else:
                    judged += 1
        consumer.close()

    with running:
        receiver = threading.Thread(target=receive)
        receiver.start()
        producer = load.producer(**{"linger.ms": 0})
        begun = time.time()
        for number, (kind, event) in enumerate(events):
            wait = begun + number / rate - time.time()
            if wait > 0:
                producer.poll(0)
                time.sleep(wait)
            now = time.time()
            value = json.dumps({**event, "time": iso_time(int(now * 1_000_000))}).encode()
            producer.produce(load.topic(kind), value)
            if kind == "clicks":
                sent[event["click_id"]] = now
        producer.flush(60)
        # Else the slowest would not count.
        deadline = time.monotonic() + _WAIT_SECONDS
        while judged < len(sent) and time.monotonic() < deadline:
            time.sleep(0.1)
        time.sleep(5)
        done.set()
        receiver.join(60)
    if judged < len(sent):
        raise RuntimeError(f"{judged} of {len(sent)} clicks were judged in {_WAIT_SECONDS:.0f} s")
    begin = begun + seconds / 4
    times = [1000 * (moment - sent[click]) for click, moment in read.items() if sent[click] >= begin]
    if len(times) < 100:
        raise RuntimeError(f"only {len(times)} alerts: no percentiles can be told")
    return float(np.percentile(times, 50)), float(np.percentile(times, 99)), len(times)


def events_a_second(load: Load, running: AbstractContextManager[Any], clicks: int, events: int) -> float:
    """Events a second from the first committed judgement to the last, by what the broker noted."""
    consumer = load.consumer("scored_clicks")
    first, last, seen = 0, 0, 0
    with running:
        deadline = time.monotonic() + _WAIT_SECONDS
        while seen < clicks:
            if time.monotonic() > deadline:
                raise RuntimeError(f"{seen} of {clicks} clicks were judged in {_WAIT_SECONDS} s")
            for message in consumer.consume(10_000, 0.5):
                if message.error() is None:
                    moment = message.timestamp()[1]
                    first, last, seen = first or moment, moment, seen + 1
    consumer.close()
    return events / ((last - first) / 1000)


def sustained(folder: Path, broker: LocalBroker, count: int) -> float:
    """Events a second, from Kafka to Kafka, with features, scores and alerts."""
    load = Load(folder, broker, f"sustained-{time.time_ns()}", threshold=0.5, entities=[["ip"], ["device"]])
    clicks = fill(load, folder, count)
    return events_a_second(load, load.running("--stages", "features,score,alerts"), clicks, count)


def fill(load: Load, folder: Path, count: int, begin: int | None = None) -> int:
    """Sends events and says how many are clicks.

    Args:
        load: Where they go.
        folder: Traffic to send.
        count: How many, a thousandth of a second apart by their time.
        begin: The first one's time in microseconds since 1970; so that the last one's is now if None.
    """
    producer = load.producer(**{"linger.ms": 20, "queue.buffering.max.messages": 2_000_000})
    begin = time.time_ns() // 1000 - count * 1000 if begin is None else begin
    clicks = 0
    for number, (kind, event) in enumerate(events_of(folder, count)):
        producer.produce(load.topic(kind), json.dumps({**event, "time": iso_time(begin + number * 1000)}).encode())
        clicks += kind == "clicks"
        producer.poll(0)
    producer.flush(120)
    return clicks


def scorer(folder: Path, broker: LocalBroker, count: int) -> float:
    """Featured clicks a second that one scorer judges."""
    from adclick.stream.clicks import Click, featured_bytes

    load = Load(folder, broker, f"scorer-{time.time_ns()}", threshold=0.5)
    producer = load.producer(**{"linger.ms": 20, "queue.buffering.max.messages": 2_000_000})
    rng = np.random.default_rng(1)
    clicks = [event for kind, event in events_of(folder, 3 * count) if kind == "clicks"][:count]
    begin = time.time_ns() // 1000
    columns = ("browser", "country", "site", "ad", "advertiser", "cost")
    for number, event in enumerate(clicks):
        features = {name: float(value) for name, value in zip(FEATURES, rng.exponential(3, len(FEATURES)), strict=True)}
        click = Click(event["click_id"], begin + number, {name: event[name] for name in columns}, features)
        producer.produce(load.topic("featured_clicks"), featured_bytes(click))
        producer.poll(0)
    producer.flush(120)
    return events_a_second(load, load.running("--stages", "score"), len(clicks), len(clicks))


def main(
    project: Annotated[Path | None, typer.Option(help="A folder of an earlier run's traffic and model.")] = None,
    seconds: Annotated[int, typer.Option(min=4, help="How long 1,000 events a second are sent.")] = 40,
    events: Annotated[int, typer.Option(min=1000, help="How many are judged for the rates.")] = 200_000,
    threshold: Annotated[float, typer.Option(help="Of the latency's alerts.")] = 0.5,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the results there.")] = None,
) -> None:
    """Measures and reports."""
    with tempfile.TemporaryDirectory(prefix="adclick-benchmark-") as work:
        folder = project or Path(work) / "project"
        if not (folder / "config.yaml").exists():
            prepare(folder)
        print(f"load of the machine before: {os.getloadavg()[0]:.1f}", file=sys.stderr)
        results: list[Result] = []
        with local_broker(Path(work) / "kafka") as broker:
            half, most, alerts = latency(folder, broker, seconds, threshold)
            name = f"click produced to alert readable, 1,000 events/s, {alerts:,} alerts"
            results.append(share(f"{name}: median", half, 30.0, "ms", "<= 1"))
            results.append(share(f"{name}: 99th percentile", most, 100.0, "ms", "<= 1"))
            rate = sustained(folder, broker, events)
            results.append(more(f"Kafka to Kafka, {events:,} events", rate, 8000, "events/s", ">= 1"))
            rate = scorer(folder, broker, events)
            results.append(more(f"a scorer alone, {events:,} clicks", rate, 20_000, "clicks/s", ">= 1"))
        print(f"load of the machine after: {os.getloadavg()[0]:.1f}", file=sys.stderr)
        report("Clicks judged as they come; the baseline is the limit", results, json_file)


if __name__ == "__main__":
    typer.run(main)
