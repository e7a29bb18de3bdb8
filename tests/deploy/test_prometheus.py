"""Alert rules: their unit tests by promtool, and a runbook for each."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import yaml
from prometheus_client import CollectorRegistry

from adclick.serving.gateway.device_metrics import DeviceMetrics
from adclick.serving.gateway.device_state import DeviceState
from adclick.stream.metrics import StreamMetrics
from tests.deploy.conftest import DEPLOY, ROOT, assert_passes

FOLDER = DEPLOY / "prometheus"
TESTS = sorted(FOLDER.glob("*_test.yml"))
FILES = ("alerts.yml", "stream_alerts.yml", "edge_alerts.yml")


def alerts(*files: str) -> list[dict[str, Any]]:
    """The alerts of some files of rules; of serving's if none is named."""
    found = [yaml.safe_load((FOLDER / name).read_text())["groups"] for name in files or ("alerts.yml",)]
    return [rule for groups in found for group in groups for rule in group["rules"] if "alert" in rule]


def test_promtool() -> None:
    assert_passes("promtool", "check", "config", FOLDER / "prometheus.yml")
    assert_passes("promtool", "test", "rules", *TESTS)


def test_every_alert_fires_in_a_test() -> None:
    tests = [test for file in TESTS for test in yaml.safe_load(file.read_text())["tests"]]
    cases = [case for test in tests for case in test.get("alert_rule_test", [])]
    fired = {case["alertname"] for case in cases if case["exp_alerts"]}
    assert fired == {alert["alert"] for alert in alerts(*FILES)}


def test_every_alert_has_a_runbook() -> None:
    for alert in alerts(*FILES):
        file, _, anchor = alert["annotations"]["runbook"].partition("#")
        headings = re.findall(r"^## (.+)$", (ROOT / file).read_text(), re.MULTILINE)
        assert anchor in {heading.lower() for heading in headings}, alert["alert"]
        assert alert["labels"]["severity"] in {"page", "ticket"}


def assert_queries_are_of(series: dict[str, set[str]], prefix: str, dashboard: str, *files: str) -> None:
    """Each metric and label of a dashboard and of some alerts is among these series."""
    panels = json.loads((DEPLOY / "grafana/dashboards" / dashboard).read_text())["panels"]
    queries = [target["expr"] for panel in panels for target in panel.get("targets", [])]
    assert len(queries) > 10
    for query in [*queries, *(alert["expr"] for alert in alerts(*files))]:
        named = re.findall(rf"({prefix}\w+)(?:\{{([^}}]*)\}})?", query)
        assert named, query
        for name, labels in named:
            assert name in series, query
            assert set(re.findall(r"(\w+)!?=", labels)) <= series[name], query


def test_every_metric_of_the_devices_alerts_and_dashboard_is_one_of_the_gateway_s() -> None:
    state = DeviceState(frames={"approved": 1.0})
    numbers = dict.fromkeys(("bundle_version", "frames_a_second", "temperature_celsius"), 1)
    state.heartbeat = {**numbers, "memory_bytes": 1, "disk_free_bytes": 1, "waiting": {"alert": 0}}
    registry = CollectorRegistry()
    DeviceMetrics(registry, lambda: {"screen-1": state})
    series: dict[str, set[str]] = {}
    for metric in registry.collect():
        for sample in metric.samples:
            series.setdefault(sample.name, set()).update(sample.labels)
    assert_queries_are_of(series, "adclick_edge_", "edge.json", "edge_alerts.yml")


def test_every_metric_of_the_stream_s_alerts_and_dashboard_is_one_of_its_own() -> None:
    metrics = StreamMetrics()
    metrics.expect_receiver("webhook")
    metrics.lag.labels("clicks").set(0)
    metrics.count_scores(1, np.zeros(1, np.float32), 0)
    metrics.count_no_probability(1, 1)
    series: dict[str, set[str]] = {}
    for metric in metrics.registry.collect():
        for sample in metric.samples:
            series.setdefault(sample.name, set()).update(sample.labels)
    assert_queries_are_of(series, "adclick_stream_", "stream.json", "stream_alerts.yml")
