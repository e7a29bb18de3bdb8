"""The features on a real Flink: those of history and of one process, to the byte."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from adclick.pipeline.cli.app import app
from adclick.stream.flink.local_cluster import LocalCluster
from adclick.stream.settings import KafkaSettings
from adclick.stream.state.store import MemoryState
from tests.stream.stages import Project, drive, make_project, messages, produce, traffic, written
from tests.stream.test_stages import Topics, operator_of

pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(1800)]

EVENTS = 4_000
CLICKS = EVENTS // 2
SECONDS = 600.0
FEATURES = {
    "clicks_by_ip": {"kind": "count", "by": ["ip"], "window": "1m"},
    "impressions_by_ip": {"kind": "count", "by": ["ip"], "window": "1m", "of": "impressions"},
    "ips": {"kind": "distinct", "by": ["net"], "column": "ip", "window": "1m"},
    "spent": {"kind": "sum", "by": ["net", "ip"], "column": "cost", "window": "1m"},
    "since": {"kind": "time_since_last", "by": ["net"], "window": "1m"},
    "to_click": {"kind": "time_to_click"},
    "known": {"kind": "share_with_impression", "by": ["net"], "window": "1m"},
}


def events() -> list[dict[str, Any]]:
    """Events out of order by less than is allowed, some of them late by much more, and some that are none."""
    found = traffic(EVENTS)
    for number, event in enumerate(found):
        event["net"] = f"n{number % 7}"
        if number % 97 == 50 and number > 1_500:
            event["time"] = found[number - 1_400]["time"]
    return found


def project_of(
    folder: Path, kafka: KafkaSettings, topics: Topics, *, group: str, made: Sequence[dict[str, Any]], **flink: Any
) -> Project:
    """A project with topics and a consumer group of its own, which hold the events."""
    project = make_project(
        folder,
        kafka.model_copy(update={"group": f"{kafka.group}-{group}"}),
        topics(),
        model=False,
        features=FEATURES,
        flink={"python": sys.executable, "checkpoints": str(folder / "checkpoints"), **flink},
    )
    produce(project, made)
    return project


def featured(project: Project, count: int = CLICKS) -> dict[bytes, bytes]:
    """The committed featured clicks by id; none is there twice."""
    found = messages(project.stream.kafka, project.stream.topics.featured_clicks.name, count, SECONDS)
    by_id = {message.key(): message.value() for message in found}
    assert len(by_id) == len(found), "a click came twice"
    return by_id


def embedded(project: Project) -> dict[bytes, bytes]:
    """The featured clicks of one process."""
    with ExitStack() as stack:
        operator = operator_of(project, MemoryState(), stack)
        seen = 0

        def all_are_through() -> bool:
            nonlocal seen
            seen += operator.step()
            return seen >= EVENTS and not operator.waiting

        drive([], all_are_through, SECONDS)
        return featured(project)


@contextmanager
def on_flink(project: Project, flink: LocalCluster) -> Iterator[subprocess.Popen[bytes]]:
    """`adclick stream run --flink`, once the features are computed; ended in order at the end."""
    address = f"{flink.cluster.host}:{flink.cluster.port}"
    command = [sys.executable, "-m", "adclick", "stream", "run", "--config", str(project.file)]
    log = project.file.with_suffix(".log")
    before = log.read_text().count("on Flink") if log.exists() else 0
    with log.open("ab") as stream:
        process = subprocess.Popen([*command, "--flink", address], stderr=stream)
    try:
        deadline = time.monotonic() + SECONDS
        while log.read_text().count("on Flink") == before:
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()[-3000:]
            time.sleep(0.2)
        yield process
        process.send_signal(signal.SIGTERM)
        assert process.wait(SECONDS) == 0, log.read_text()[-3000:]
    finally:
        process.kill()
        process.wait(60)


def backfilled(project: Project, folder: Path, made: Sequence[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """The features of the clicks that a backfill of the same events writes, by id."""
    command = ["stream", "backfill", "--config", str(project.file), "--quiet"]
    for kind in ("clicks", "impressions"):
        file = folder / f"{kind}.jsonl"
        lines = [{**event, "is_fraud": "0"} for event in made if event["kind"] == kind]
        file.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
        command += [f"--{kind}", str(file)]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    found = {}
    for file in Path(project.config.data.root).rglob("*.csv"):
        with file.open(newline="") as rows:
            for row in csv.DictReader(rows):
                found[row["click_id"]] = {name: float(row[name]) for name in FEATURES if row[name]}
    return found


def test_history_one_process_and_flink_give_equal_features(
    tmp_path: Path, kafka: KafkaSettings, own_topics: Topics, flink: LocalCluster
) -> None:
    made = events()
    expected = embedded(project_of(tmp_path / "embedded", kafka, own_topics, group="embedded", made=made))
    project = project_of(tmp_path / "flink", kafka, own_topics, group="flink", made=made, parallelism=2)
    produce(project, [{"kind": "clicks", "raw": b"{none"}])
    with on_flink(project, flink):
        found = featured(project)
        (rejected,) = messages(kafka, project.stream.topics.rejected_events.name, 1, SECONDS)
    assert found == expected
    headers = dict(rejected.headers())
    assert rejected.value() == b"{none" and headers["kind"] == b"clicks" and headers["reason"].startswith(b"not JSON")
    assert headers["bytes"] == b"5" and int(headers["offset"]) >= CLICKS // 2
    clicks = [json.loads(content) for content in found.values()]
    late = {one["click_id"] for one in clicks if one["late"]}
    assert 0 < len(late) < CLICKS / 20
    # A drop has the late ones, too, without features.
    assert backfilled(project, tmp_path, made) == {one["click_id"]: one["features"] for one in clicks}


def test_killed_in_the_middle_and_started_again_elsewhere_it_gives_equal_features(
    tmp_path: Path, kafka: KafkaSettings, own_topics: Topics, flink: LocalCluster
) -> None:
    made = traffic(EVENTS)
    half = EVENTS // 2
    expected = embedded(project_of(tmp_path / "embedded", kafka, own_topics, group="calm", made=made))
    project = project_of(tmp_path / "flink", kafka, own_topics, group="killed", made=made[: EVENTS // 10])
    topic = project.stream.topics.featured_clicks
    with on_flink(project, flink):
        rest = threading.Thread(target=produce, args=(project, made[EVENTS // 10 : half], 150.0))
        rest.start()
        deadline = time.monotonic() + SECONDS
        while not written(project.stream.kafka, topic) > 0:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        (name,) = flink.task_managers
        flink.kill_task_manager(name)
        assert written(project.stream.kafka, topic) < half // 2, "it was killed too late for this test to mean anything"
        flink.add_task_manager()
        rest.join(SECONDS)
        featured(project, half // 2)
    # The state outlives the job, and is parted anew among more tasks.
    document = yaml.safe_load(project.file.read_text())
    document["stream"]["flink"]["parallelism"] = 2
    project.file.write_text(yaml.safe_dump(document))
    produce(project, made[half:])
    with on_flink(project, flink):
        found = featured(project)
        # What comes twice would come by then.
        time.sleep(2)
        assert featured(project) == found
    assert project.file.with_suffix(".log").read_text().count(f", from {tmp_path / 'flink' / 'checkpoints'}") == 1
    assert found == expected
