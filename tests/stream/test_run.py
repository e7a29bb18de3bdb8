"""`adclick stream run` on a real broker: judged clicks, alerts and rejected events, as programs read them."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from adclick.stream.alerts.alert import alert_id
from adclick.stream.settings import KafkaSettings, TopicsSettings
from tests.gcs import free_port
from tests.stream.stages import (
    WAIT_SECONDS,
    Project,
    documents,
    make_project,
    messages,
    produce,
    traffic,
    write_fraud_model,
)

pytestmark = pytest.mark.end_to_end

Topics = Callable[..., TopicsSettings]


@contextmanager
def running(project: Project, *options: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """`adclick stream run` as a process of its own, and the port of its metrics; ended in order."""
    port = free_port()
    log = project.file.with_suffix(f".{port}.log")
    command = [sys.executable, "-m", "adclick", "stream", "run", "--config", str(project.file)]
    with log.open("w") as stream:
        process = subprocess.Popen([*command, "--metrics-port", str(port), *options], stderr=stream, text=True)
        try:
            wait_for(lambda: "reading from" in log.read_text() or process.poll() is not None, log)
            assert process.poll() is None, log.read_text()
            yield process, port
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                assert process.wait(60) == 0, log.read_text()
        finally:
            process.kill()
            process.wait(60)


def wait_for(condition: Callable[[], Any], log: Path | None = None, seconds: float = WAIT_SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, log.read_text() if log else "waited in vain"
        time.sleep(0.1)


def sample(port: int, name: str) -> float:
    """A sample of the metrics, with its labels."""
    text = httpx.get(f"http://127.0.0.1:{port}/metrics", trust_env=False, timeout=60).text
    return next((float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(f"{name} ")), 0.0)


def test_clicks_are_judged_a_wave_raises_one_alert_and_what_is_no_event_is_set_aside(
    tmp_path: Path, kafka: KafkaSettings, own_topics: Topics
) -> None:
    project = make_project(tmp_path, kafka, own_topics())
    topics = project.stream.topics
    events = traffic(3000)
    bad = {
        b"{": "not JSON",
        b"[1]": "not a JSON object",
        b'{"click_id": "x"}': "time: is missing",
        b'{"click_id": "x", "time": "1970-01-01T00:00:00Z"}': "not between the years",
        b'{"click_id": "' + b"x" * 1500 + b'", "time": "2026-11-01T00:00:00Z"}': "more than 1000",
        b'{"click_id": "x", "padding": "' + b"x" * 70_000 + b'"}': "bytes are more than",
    }
    late = {"kind": "clicks", "time": "2026-10-31T23:00:00Z", "click_id": "late", "ip": "10.0.0.1"}
    with running(project) as (_, port):
        produce(project, [*events, *({"kind": "clicks", "raw": one} for one in bad), late])
        judged = documents(kafka, topics.scored_clicks.name, 1501)
        rejected = messages(kafka, topics.rejected_events.name, len(bad))
        wait_for(lambda: sample(port, 'adclick_stream_events_total{kind="clicks",outcome="processed"}') >= 1500)
        assert sample(port, 'adclick_stream_events_total{kind="clicks",outcome="rejected"}') == len(bad)
        assert sample(port, 'adclick_stream_events_total{kind="clicks",outcome="late"}') == 1
        assert sample(port, 'adclick_stream_scored_clicks_total{model_version="1"}') == 1501
    assert Counter(one["click_id"] for one in judged) == Counter(
        [*(e["click_id"] for e in events if "click_id" in e), "late"]
    )
    by_id = {one["click_id"]: one for one in judged}
    assert by_id["late"]["late"] and by_id["late"]["features"] == {}
    assert all(one["model_version"] == 1 and "clicks_by_ip" in one["features"] for one in judged if not one["late"])
    # The probability that the model gives, the features being those of this instant.
    wave = [one for one in judged if one["fields"]["ip"] == "6.6.6.6"]
    assert [one["features"]["clicks_by_ip"] for one in sorted(wave, key=lambda one: one["time"])][:12] == list(
        range(1, 13)
    )
    assert {one["click_id"] for one in judged if one["is_alerting"]} == {
        one["click_id"] for one in wave if one["features"]["clicks_by_ip"] >= 10
    }
    for message in rejected:
        reason = dict(message.headers())["reason"].decode()
        assert bad[message.value()] in reason
    alerts = documents(kafka, topics.alerts.name, 1)
    assert {one["id"] for one in alerts} == {alert_id({"ip": "6.6.6.6"}, alerts[0]["first_click"])}
    assert [one["revision"] for one in alerts] == list(range(1, len(alerts) + 1)) and len(alerts) < 10
    first = alerts[0]
    assert (first["clicks"], first["all_clicks"], first["money"], first["state"]) == (3, 3, 0.75, "open")
    assert first["evidence"][0]["column"] == "clicks_by_ip" and first["evidence"][0]["value"] == 12
    assert len(alerts[-1]["title"]) and alerts[-1]["clicks"] > 64

    verdicts = tmp_path / "verdicts.csv"
    found_to_be = {name: int(one["fields"]["ip"] == "6.6.6.6") for name, one in by_id.items()}
    verdicts.write_text("click_id,is_fraud\n" + "".join(f"{name},{what}\n" for name, what in found_to_be.items()))
    command = [sys.executable, "-m", "adclick", "stream", "monitor", "--config", str(project.file)]
    options = ["--verdicts", str(verdicts), "--json", "-"]
    done = subprocess.run([*command, *options], capture_output=True, text=True, timeout=WAIT_SECONDS)
    assert done.returncode in (0, 6), done.stderr
    report = json.loads(done.stdout)
    alerting = sum(one["is_alerting"] for one in judged)
    assert report["verdicts"]["verdicts"] == 1501 and report["verdicts"]["unmatched"] == 0
    assert report["alerting"]["1"]["caught"] == alerting and report["alerting"]["1"]["missed"] == len(wave) - alerting
    assert report["alerting"]["1"]["precision"]["value"] == 1.0


@pytest.mark.parametrize(
    ("options", "remedy"),
    [(("--stages", "scorer"), "features,score,alerts"), (("--bootstrap-servers", "127.0.0.1:1"), "does not answer")],
)
def test_what_is_wrong_is_said(
    tmp_path: Path, kafka: KafkaSettings, own_topics: Topics, options: tuple[str, ...], remedy: str
) -> None:
    project = make_project(tmp_path, kafka, own_topics())
    command = [sys.executable, "-m", "adclick", "stream", "run", "--config", str(project.file), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=WAIT_SECONDS)
    assert done.returncode == 2 and remedy in done.stderr, done.stderr
    assert "Traceback" not in done.stderr


def test_a_version_without_a_threshold_is_said(tmp_path: Path, kafka: KafkaSettings, own_topics: Topics) -> None:
    project = make_project(tmp_path, kafka, own_topics(), model=False)
    write_fraud_model(Path(project.config.push_base), 7, threshold=None)
    command = [sys.executable, "-m", "adclick", "stream", "run", "--config", str(project.file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=WAIT_SECONDS)
    assert done.returncode == 2 and "no threshold for a false-positive rate of 0.001" in done.stderr, done.stderr
    assert json.loads((Path(project.config.push_base) / "7/assets.extra/adclick.json").read_text())
