"""Exactly once: whatever is killed in the middle, each click is judged once, and as if nothing had happened."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from adclick.stream.kafka.local_broker import LocalBroker
from adclick.stream.settings import KafkaSettings
from adclick.stream.state.store import MemoryState
from tests.stream.stages import WAIT_SECONDS, Project, documents, drive, make_project, produce, traffic, written
from tests.stream.test_stages import Topics, operator_of

pytestmark = pytest.mark.end_to_end

EVENTS = 16_000
CLICKS = EVENTS // 2


@contextmanager
def started(project: Project, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    """`adclick stream run`, killed -9 at the end."""
    command = [sys.executable, "-m", "adclick", "stream", "run", "--config", str(project.file)]
    with project.file.with_suffix(".log").open("ab") as log:
        process = subprocess.Popen([*command, "--metrics-port", "0", *options], stderr=log)
        try:
            yield process
        finally:
            process.kill()
            process.wait(60)


def scored(project: Project) -> int:
    return written(project.stream.kafka, project.stream.topics.scored_clicks)


def wait_until_written(project: Project, more_than: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while scored(project) <= more_than:
        assert process.poll() is None, project.file.with_suffix(".log").read_text()[-3000:]
        assert time.monotonic() < deadline, project.file.with_suffix(".log").read_text()[-3000:]
        time.sleep(0.01)


def judged(project: Project) -> dict[str, Any]:
    """The judged clicks by id; none is there twice."""
    found = documents(project.stream.kafka, project.stream.topics.scored_clicks.name, CLICKS)
    by_id = {one["click_id"]: one for one in found}
    assert len(by_id) == len(found), "a click was judged twice"
    return by_id


def alerts(project: Project) -> list[tuple[Any, ...]]:
    found = documents(project.stream.kafka, project.stream.topics.alerts.name, 1)
    return sorted((one["id"], one["revision"], one["clicks"], one["last_click"]) for one in found)


def undisturbed(folder: Path, kafka: KafkaSettings, own_topics: Topics) -> tuple[Project, Project]:
    """Two projects with the same events in topics of their own; the stream has gone through those of the first."""
    # So small batches that there is a middle.
    small = {"poll_seconds": 0.2, "batch_rows": 60}
    events = traffic(EVENTS)
    calm = make_project(folder / "calm", kafka, own_topics(), scorer=small)
    produce(calm, events)
    with started(calm):
        expected = judged(calm)
    assert len(expected) == CLICKS and not any(one["late"] for one in expected.values())
    other = kafka.model_copy(update={"group": f"{kafka.group}-disturbed"})
    project = make_project(folder / "disturbed", other, own_topics(), scorer=small)
    produce(project, events)
    return calm, project


def test_an_operator_killed_in_the_middle(tmp_path: Path, kafka: KafkaSettings, own_topics: Topics) -> None:
    calm, project = undisturbed(tmp_path, kafka, own_topics)
    with started(project) as process:
        wait_until_written(project, 0, process)
    assert scored(project) < CLICKS, "it was killed too late for this test to mean anything"
    with started(project):
        judged(project)
        # What comes twice would come by then.
        time.sleep(2)
    assert judged(project) == judged(calm)
    assert alerts(project) == alerts(calm)


def test_a_broker_killed_in_the_middle(
    tmp_path: Path, broker: LocalBroker, kafka: KafkaSettings, own_topics: Topics
) -> None:
    calm, project = undisturbed(tmp_path, kafka, own_topics)
    with started(project) as process:
        wait_until_written(project, 0, process)
        assert scored(project) < CLICKS // 2, "the broker was killed too late for this test to mean anything"
        broker.kill()
        time.sleep(1)
        broker.start()
        judged(project)
        time.sleep(2)
    assert judged(project) == judged(calm)
    assert alerts(project) == alerts(calm)


def test_a_scorer_killed_in_the_middle(tmp_path: Path, kafka: KafkaSettings, own_topics: Topics) -> None:
    project = make_project(tmp_path, kafka, own_topics(), scorer={"poll_seconds": 0.2, "batch_rows": 30})
    produce(project, traffic(EVENTS))
    operator = operator_of_all(project)
    expected = documents(kafka, project.stream.topics.featured_clicks.name, CLICKS)
    operator.close()
    scorer = ("--stages", "score", "--instance", "a")
    with started(project, *scorer) as process:
        wait_until_written(project, 0, process)
    assert scored(project) < CLICKS, "it was killed too late for this test to mean anything"
    with started(project, *scorer):
        judged(project)
        time.sleep(2)
    found = judged(project)
    assert found.keys() == {one["click_id"] for one in expected}
    assert all(found[one["click_id"]]["features"] == one["features"] for one in expected)


def operator_of_all(project: Project) -> Any:
    """An operator that has gone through all events."""
    from contextlib import ExitStack

    operator = operator_of(project, MemoryState(), ExitStack())
    seen = 0

    def all_are_through() -> bool:
        nonlocal seen
        seen += operator.step()
        return seen >= EVENTS and not operator.waiting

    drive([], all_are_through)
    return operator
