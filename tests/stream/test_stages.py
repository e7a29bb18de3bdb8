"""The stages on a real broker, each as an object in this process."""

from __future__ import annotations

import math
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from typer.testing import CliRunner

from adclick.pipeline.cli.app import app
from adclick.schema.errors import SkewFound
from adclick.stream.kafka.local_broker import lasting_port
from adclick.stream.metrics import StreamMetrics
from adclick.stream.scoring import ClickScorer
from adclick.stream.settings import KafkaSettings, TopicsSettings
from adclick.stream.stages.alerter import AlertStage
from adclick.stream.stages.judge import Judge
from adclick.stream.stages.members import ScorerStage
from adclick.stream.stages.operator import OperatorStage
from adclick.stream.state.store import MemoryState
from tests.stream.stages import BEGIN, Project, documents, drive, make_project, produce, traffic, write_fraud_model

pytestmark = pytest.mark.end_to_end

Topics = Callable[..., TopicsSettings]


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def judge_of(project: Project, metrics: StreamMetrics, stack: ExitStack) -> Judge:
    settings = project.stream
    scorer = ClickScorer(
        settings.scorer,
        settings.alerts,
        project.config.features,
        model_name=project.config.serving.model_name,
        model_base_path=project.config.push_base,
    )
    stack.callback(scorer.close)
    return Judge(scorer, metrics)


def operator_of(project: Project, store: MemoryState, stack: ExitStack, judge: Judge | None = None) -> OperatorStage:
    stage = OperatorStage(
        project.stream, project.config.features, store, judge=judge, alerts=None, metrics=StreamMetrics()
    )
    stack.callback(stage.close)
    return stage


def test_a_new_version_judges_from_then_on(
    tmp_path: Path, kafka: KafkaSettings, own_topics: Topics, stack: ExitStack
) -> None:
    project = make_project(tmp_path, kafka, own_topics(partitions=1))
    metrics = StreamMetrics()
    stage = operator_of(project, MemoryState(), stack, judge_of(project, metrics, stack))
    produce(project, traffic(200))
    drive([stage], lambda: metrics.value("scored_clicks_total", model_version="1") == 100)
    write_fraud_model(Path(project.config.push_base), 2, weight=-1.0)
    begins = iter(range(BEGIN + 10_000_000, BEGIN + 10_000_000_000, 10_000_000))

    def judged_by_the_new_one() -> bool:
        produce(project, traffic(20, begin=next(begins)))
        return metrics.value("model_version") == 2

    drive([stage], judged_by_the_new_one)
    versions = [one["model_version"] for one in documents(kafka, project.stream.topics.scored_clicks.name, 101)]
    assert versions == sorted(versions) and set(versions) == {1, 2}


@contextmanager
def model_server(project: Project, port: int) -> Iterator[None]:
    """A server of TensorFlow Serving's API as a process of its own, over gRPC; killed -9 at the end."""
    command = [sys.executable, "-m", "adclick.serving.model_server.command", f"--port={port}", "--rest_api_port=0"]
    name, base = project.config.serving.model_name, project.config.push_base
    process = subprocess.Popen([*command, f"--model_name={name}", f"--model_base_path={base}"])
    try:
        yield
    finally:
        process.kill()
        process.wait(60)


def test_a_server_is_asked_over_grpc_and_waited_for_where_it_goes_away(
    tmp_path: Path, kafka: KafkaSettings, own_topics: Topics, stack: ExitStack
) -> None:
    port = lasting_port()
    scorer = {"backend": "grpc", "address": f"127.0.0.1:{port}", "poll_seconds": 0.2}
    project = make_project(tmp_path, kafka, own_topics(partitions=1), scorer=scorer)
    metrics = StreamMetrics()
    judged = lambda: metrics.value("scored_clicks_total", model_version="1")  # noqa: E731
    with model_server(project, port):
        stage = operator_of(project, MemoryState(), stack, judge_of(project, metrics, stack))
        produce(project, traffic(200))
        drive([stage], lambda: judged() == 100)
    produce(project, traffic(200, begin=BEGIN + 10_000_000))
    with model_server(project, port):
        drive([stage], lambda: judged() == 200)
        write_fraud_model(Path(project.config.push_base), 2, weight=-1.0)
        begins = iter(range(BEGIN + 20_000_000, BEGIN + 10_000_000_000, 10_000_000))

        def judged_by_the_new_one() -> bool:
            produce(project, traffic(20, begin=next(begins)))
            return metrics.value("model_version") == 2

        drive([stage], judged_by_the_new_one)
    clicks = documents(kafka, project.stream.topics.scored_clicks.name, 201)
    assert [one["model_version"] for one in clicks[:200]] == [1] * 200
    for click in clicks:
        logit = (click["features"]["clicks_by_ip"] - 10) * (1 if click["model_version"] == 1 else -1)
        assert click["fraud_probability"] == pytest.approx(1 / (1 + math.exp(-logit)), rel=1e-5)


def test_scorers_of_a_group_share_the_clicks(
    tmp_path: Path, kafka: KafkaSettings, own_topics: Topics, stack: ExitStack
) -> None:
    project = make_project(tmp_path, kafka, own_topics(partitions=4))
    topics = project.stream.topics
    events = traffic(2000)
    both = [StreamMetrics(), StreamMetrics()]
    scorers = [ScorerStage(project.stream, judge=judge_of(project, one, stack), metrics=one) for one in both]
    alerter = AlertStage(project.stream, MemoryState(), metrics=StreamMetrics())
    for stage in (*scorers, alerter):
        stack.callback(stage.close)
    counts = lambda: [one.value("scored_clicks_total", model_version="1") for one in both]  # noqa: E731
    drive(scorers, lambda: all(len(scorer.partitions) == 2 for scorer in scorers))
    operator = operator_of(project, MemoryState(), stack)
    produce(project, events)
    drive([operator, *scorers], lambda: sum(counts()) >= 1000)
    judged = documents(kafka, topics.scored_clicks.name, 1000)
    assert Counter(one["click_id"] for one in judged) == Counter(e["click_id"] for e in events if "click_id" in e)
    assert sum(counts()) == 1000 and min(counts()) > 0
    drive([alerter], lambda: alerter.consumed == 1000)
    alerts = documents(kafka, topics.alerts.name, 1)
    assert {one["entity"]["ip"] for one in alerts} == {"6.6.6.6"}


def test_a_replay_finds_the_features_as_they_were_served(
    tmp_path: Path, kafka: KafkaSettings, own_topics: Topics, stack: ExitStack
) -> None:
    project = make_project(tmp_path, kafka, own_topics())
    metrics = StreamMetrics()
    stage = operator_of(project, MemoryState(), stack, judge_of(project, metrics, stack))
    produce(project, traffic(2000))
    drive([stage], lambda: metrics.value("scored_clicks_total", model_version="1") == 1000)
    replay = lambda file: CliRunner().invoke(app, ["stream", "replay", "--config", str(file)])  # noqa: E731
    same = replay(project.file)
    assert same.exit_code == 0 and "1,000 clicks were served and replayed, 1,000 of them with equal" in same.output
    # Another definition of a feature says something else.
    other = tmp_path / "other.yaml"
    other.write_text(project.file.read_text().replace("window: 1m", "window: 1s"))
    found = replay(other)
    assert isinstance(found.exception, SkewFound)
    assert "clicks_by_ip in" in found.exception.message and found.exception.exit_code == 6
