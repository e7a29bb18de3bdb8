"""Traffic through the real gateway, and what the monitor makes of its log and of the clicks that come."""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console

from adclick.models.requests import requests_from_examples
from adclick.pipeline.config.settings import load_config
from adclick.pipeline.monitor.command import run_monitor
from adclick.pipeline.runs.data import held_out_files
from adclick.pipeline.runs.record import read_records
from adclick.pipeline.runs.traffic_findings import find_finding
from adclick.schema.curated import load_schema, write_schema
from adclick.schema.errors import ConfigError, DataRefused, SkewFound
from adclick.serving.client.gateway_client import GatewayClient
from adclick.serving.gateway.server import running_gateway
from adclick.serving.gateway.settings import GatewaySettings
from adclick.serving.model_server.server import RunningServer, running_server
from tests.end_to_end.harness import Project, adclick, small_project

WINDOW = 3_600
CONTEXTS = 100
Row = dict[str, Any]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A pushed version that takes the width of an ad as a quantity, so that there is one."""
    made = small_project(tmp_path_factory.mktemp("monitored") / "project", rows=10_000)

    def with_a_quantity(config: dict[str, Any]) -> None:
        config["features"]["ad_width"] = {"role": "numeric", "missing": ["-1"]}
        config["evaluation"]["thresholds"] = [{"metric": "auc", "lower": 0.5}]

    made.edit_config(with_a_quantity)
    path = str(made.folder / "schema.pbtxt")
    schema = load_schema(path)
    (width,) = (feature for feature in schema.feature if feature.name == "ad_width")
    width.type = 3
    width.skew_comparator.jensen_shannon_divergence.threshold = 0.2
    write_schema(schema, path)
    done = made.run()
    assert done.code == 0, done.text
    return made


@pytest.fixture(scope="module")
def models(project: Project) -> Iterator[RunningServer]:
    with running_server(project.push_base, grpc_port=0) as running:
        yield running


@pytest.fixture(scope="module")
def impressions(project: Project) -> list[Row]:
    """Held-out impressions as a caller would send them, with their label."""
    config = load_config(project.config)
    (record,) = read_records(config.output)
    records = [r.numpy() for r in tf.data.TFRecordDataset(held_out_files(record))]
    rows = requests_from_examples(records, config.features)
    examples = [tf.train.Example.FromString(record).features.feature for record in records]
    return [
        {
            **{name: value for name, value in row.items() if value not in ("", -1) and value == value},
            "impression_id": example["impression_id"].bytes_list.value[0].decode(),
            "clicked": example["clicked"].int64_list.value[0],
        }
        for row, example in zip(rows, examples, strict=True)
    ]


@dataclass(frozen=True)
class Sent:
    """Traffic that was answered and logged."""

    log: Path
    rows: list[Row]


@contextmanager
def gateway(project: Project, models: RunningServer, log: Path) -> Iterator[GatewayClient]:
    settings = GatewaySettings.model_validate(
        {
            "backend": {
                "kind": "in_process",
                "model_base_path": str(project.push_base),
                "timeout_seconds": 120,
                "explain_timeout_seconds": 120,
            },
            "limits": {"rate": ""},
            "log": {"predictions": str(log), "sample_percent": 100, "access": False},
        }
    )
    with ExitStack() as stack:
        running = stack.enter_context(running_gateway(settings, model_server=models.model_server, is_open=True))
        yield stack.enter_context(GatewayClient(running.url, timeout_seconds=120))


@pytest.fixture(scope="module")
def send(
    project: Project, models: RunningServer, impressions: list[Row], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Sent]:
    """Sends the impressions, each edited, to a gateway over a socket; its log is whole when this returns."""

    def sent(edit: Callable[[int, Row], Row] = lambda number, row: row) -> Sent:
        log = tmp_path_factory.mktemp("log")
        rows = [edit(number, dict(row)) for number, row in enumerate(impressions)]
        with gateway(project, models, log) as client:
            for start in range(0, len(rows), CONTEXTS):
                batch = rows[start : start + CONTEXTS]
                requests = [({}, [{k: v for k, v in row.items() if k != "clicked"}]) for row in batch]
                client.score_batch(requests, request_id=f"r-{start // CONTEXTS}")
        return Sent(log, rows)

    return sent


@pytest.fixture(scope="module")
def plain(send: Callable[..., Sent]) -> Sent:
    return send()


def monitored(project: Project, sent: Sent, **options: Any) -> tuple[dict[str, Any], str]:
    """Runs the monitor; gives its JSON, whatever it found, and what it printed."""
    file = sent.log.parent / f"{sent.log.name}-{time.time_ns()}.json"
    printed = StringIO()
    console = Console(file=printed, width=132)
    try:
        run_monitor(project.config, predictions=str(sent.log), json_file=str(file), console=console, **options)
    except SkewFound:
        pass
    else:
        assert json.loads(file.read_text())["state"] == "in_order"
    return json.loads(file.read_text()), printed.getvalue()


def alarms(document: dict[str, Any]) -> set[tuple[str, str]]:
    (version,) = document["versions"]
    return {(check["name"], check["column"]) for check in version["checks"] if check["state"] == "alarm"}


def judged(document: dict[str, Any]) -> set[str]:
    (version,) = document["versions"]
    return {check["name"] for check in version["checks"] if check["state"] != "not_judged"}


def write_clicks(path: Path, rows: Sequence[Sequence[Any]], header: Sequence[str]) -> str:
    with path.open("w", newline="") as stream:
        csv.writer(stream).writerows([header, *rows])
    return str(path)


def clicks_of(rows: Sequence[Row], seconds: float) -> list[tuple[str, float]]:
    """The clicks of the impressions that were clicked, so long after now."""
    return [(row["impression_id"], time.time() + seconds) for row in rows if row["clicked"]]


def later(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + seconds))


def test_traffic_like_the_training_data_raises_no_alarm(project: Project, plain: Sent, tmp_path: Path) -> None:
    found, printed = monitored(project, plain)
    assert found["alarms"] == []
    assert judged(found) == {"drift", "missing_rate", "unknown_rate", "mean_prediction"}
    (version,) = found["versions"]
    assert version["predictions"] == version["requests"] == len(plain.rows)
    assert version["version"] == project.versions[-1]
    assert version["baseline"]["months"] == ["2026-08", "2026-09"]
    by_check = {(check["name"], check["column"]): check for check in version["checks"]}
    assert by_check["drift", "ad_width"]["threshold"] == pytest.approx(0.2)
    assert by_check["drift", "device_type"]["threshold"] == pytest.approx(0.3)
    # The user's name is hashed: whether the model knows it cannot be told.
    assert version["hashed_columns"] == ["user_id"] and ("unknown_rate", "user_id") not in by_check
    assert "In order" in printed and "device_type" in printed


def test_drift_of_one_feature_is_found(project: Project, send: Callable[..., Sent]) -> None:
    names = send(lambda number, row: {**row, "device_type": "tablet"} if number % 5 else row)
    assert ("drift", "device_type") in alarms(monitored(project, names)[0])

    def wider(number: int, row: Row) -> Row:
        return {**row, "ad_width": row["ad_width"] * 4} if "ad_width" in row else row

    quantities = send(wider)
    found, printed = monitored(project, quantities)
    assert ("drift", "ad_width") in alarms(found)
    assert ("drift", "device_type") not in alarms(found)
    assert "the drift of ad_width" in printed
    # It is kept for who shows it.
    finding = find_finding(load_config(project.config).output, project.versions[-1])
    assert finding is not None
    assert (finding.state, finding.predictions) == ("alarm", found["versions"][0]["predictions"])
    assert [line for line in finding.alarms if line.startswith("the drift of ad_width is")]


def test_a_rise_in_missing_values_is_found(project: Project, send: Callable[..., Sent]) -> None:
    def without(number: int, row: Row) -> Row:
        return {name: value for name, value in row.items() if name != "os" or number % 3}

    assert alarms(monitored(project, send(without))[0]) == {("missing_rate", "os")}


def test_unknown_creatives_are_found(project: Project, send: Callable[..., Sent]) -> None:
    def new(number: int, row: Row) -> Row:
        return {**row, "image": f"{number:032x}", "ad_id": f"new{number}"} if number % 2 else row

    found = alarms(monitored(project, send(new))[0])
    assert {("unknown_rate", "image"), ("unknown_rate", "ad_id")} <= found
    assert not {name for name, _ in found} - {"unknown_rate", "mean_prediction"}


def test_miscalibration_shows_once_clicks_come(project: Project, plain: Sent, tmp_path: Path) -> None:
    header = ("impression_id", "click_time")
    true = write_clicks(tmp_path / "true.csv", clicks_of(plain.rows, 60), header)
    window, after = f"{WINDOW}s", later(2 * WINDOW)
    found, printed = monitored(project, plain, clicks=true, click_window=window, clicks_until=after)
    assert found["alarms"] == []
    (version,) = found["versions"]
    clicks = sum(row["clicked"] for row in plain.rows)
    assert version["labelled"] == len(plain.rows) and version["clicked"] == clicks
    performance = version["performance"]
    assert (performance["predictions"], performance["clicks"]) == (len(plain.rows), clicks)
    metrics = performance["metrics"]
    assert metrics["calibration_ratio"]["lower"] < metrics["calibration_ratio"]["value"]
    # The held-out impressions are those that the Evaluator scored.
    for name in ("log_loss", "normalised_entropy", "calibration_ratio"):
        assert metrics[name]["value"] == pytest.approx(version["baseline"]["evaluation"][name], rel=1e-3)
    assert "log loss" in printed

    random = np.random.default_rng(1)
    many = [{**row, "clicked": row["clicked"] or random.random() < 0.2} for row in plain.rows]
    more = write_clicks(tmp_path / "more.csv", clicks_of(many, 60), header)
    found, printed = monitored(project, plain, clicks=more, click_window=window, clicks_until=after)
    assert {("calibration_ratio", ""), ("calibration_error", "")} <= alarms(found)
    assert not {name for name, _ in alarms(found)} & {"drift", "missing_rate", "unknown_rate"}


def test_clicks_are_late_repeated_or_of_nothing(project: Project, plain: Sent, tmp_path: Path) -> None:
    header = ("request_id", "context_index", "ad_index", "click_time")
    now = time.time()
    in_time = [("r-0", number, 0, now + 60) for number in range(30)]
    rows = [
        *in_time,
        *in_time[:7],  # duplicates
        *(("r-1", number, 0, now + WINDOW + 600) for number in range(5)),  # late
        *(("r-2", number, 0, now - 86_400) for number in range(4)),  # before the prediction
        *(("r-3", 0, number, now + 60) for number in range(1, 4)),  # no such ad
        ("", 0, 0, now),  # without a name
    ]
    clicks = write_clicks(tmp_path / "clicks.csv", rows, header)
    found, printed = monitored(project, plain, clicks=clicks, click_window=f"{WINDOW}s", quiet=False)
    assert found["clicks"] == {
        "rows": len(rows),
        "unreadable": 1,
        "duplicates": 7,
        "outside": 0,
        "in_time": 30,
        "late": 5,
        "early": 4,
        "unmatched": 3,
    }
    # The newest click is in the future, so clicks are complete until now: no window has passed, and of so young
    # predictions only those that were clicked are labelled. Alone they would say that everything is clicked.
    (version,) = found["versions"]
    assert (version["labelled"], version["clicked"]) == (30, 30)
    assert version["performance"] is None
    assert "30 found their prediction" in printed and "5 came later" in printed


def test_only_shown_ads_count_where_more_are_scored(
    project: Project, models: RunningServer, impressions: list[Row], tmp_path: Path
) -> None:
    log = tmp_path / "log"
    fields = [{k: v for k, v in row.items() if k not in ("clicked", "impression_id")} for row in impressions[:900]]
    requests = [({}, [fields[number], fields[number + 1], fields[number + 2]]) for number in range(0, 900, 3)]
    with gateway(project, models, log) as client:
        for start in range(0, len(requests), CONTEXTS):
            client.score_batch(requests[start : start + CONTEXTS], request_id=f"r-{start // CONTEXTS}")
    names = [(f"r-{number // CONTEXTS}", number % CONTEXTS, 1) for number in range(len(requests))]
    shown = write_clicks(tmp_path / "shown.csv", names, ("request_id", "context_index", "ad_index"))
    found, _ = monitored(project, Sent(log, []), shown=shown)
    (version,) = found["versions"]
    assert (version["predictions"], version["requests"]) == (300, 300)
    assert found["log"]["not_shown"] == 600
    (alone,) = monitored(project, Sent(log, []))[0]["versions"]
    # Three ads of a request are not three independent draws.
    assert (alone["predictions"], alone["requests"]) == (900, 300)


def test_the_command_ends_in_its_own_exit_code(project: Project, plain: Sent, tmp_path: Path) -> None:
    header = ("impression_id", "click_time")
    many = write_clicks(tmp_path / "many.csv", clicks_of([{**row, "clicked": 1} for row in plain.rows], 60), header)
    base = ("monitor", "--config", project.config, "--predictions", f"{plain.log}/*.tfrecord")
    metrics, page = tmp_path / "adclick.prom", tmp_path / "page.html"
    fine = adclick(*base, "--json", "-")
    assert fine.code == 0, fine.text
    assert json.loads(fine.out)["state"] == "in_order"

    options = ("--clicks", many, "--click-window", "1h", "--clicks-until", later(2 * WINDOW))
    wrong = adclick(*base, *options, "--prometheus", metrics, "--output", page)
    assert wrong.code == 6, wrong.text
    assert "alarm" in wrong.out and "calibration ratio" in wrong.err
    families = {family.name: family for family in text_string_to_metric_families(metrics.read_text())}
    raised = {
        sample.labels["check"]
        for sample in families["adclick_monitor_alarm"].samples
        if sample.value == 1 and sample.labels["version"] == str(project.versions[-1])
    }
    assert "calibration_ratio" in raised and "drift" not in raised
    assert families["adclick_monitor_run_timestamp_seconds"].samples[0].value == pytest.approx(time.time(), abs=600)
    assert "calibration" in page.read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adclick.prom", "many.csv", "page.html"]


def test_a_wrong_selection_is_named(project: Project, plain: Sent, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no run has pushed version 99"):
        run_monitor(project.config, predictions=str(plain.log), version=99, console=Console(file=StringIO()))
    with pytest.raises(DataRefused, match="none of 1,000 logged predictions is left"):
        run_monitor(project.config, predictions=str(plain.log), until="2020-01-01", console=Console(file=StringIO()))
    with pytest.raises(ConfigError, match="no such file"):
        run_monitor(project.config, predictions=str(tmp_path / "*.x"), console=Console(file=StringIO()))
