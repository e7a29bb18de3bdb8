"""Alert rules: their unit tests by promtool, and a runbook for each."""

from __future__ import annotations

import re
from typing import Any

import yaml

from tests.deploy.conftest import DEPLOY, ROOT, assert_passes

FOLDER = DEPLOY / "prometheus"
TESTS = sorted(FOLDER.glob("*_test.yml"))


def alerts() -> list[dict[str, Any]]:
    groups = yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"] if "alert" in rule]


def test_promtool() -> None:
    assert_passes("promtool", "check", "config", FOLDER / "prometheus.yml")
    assert_passes("promtool", "test", "rules", *TESTS)


def test_every_alert_fires_in_a_test() -> None:
    tests = [test for file in TESTS for test in yaml.safe_load(file.read_text())["tests"]]
    cases = [case for test in tests for case in test.get("alert_rule_test", [])]
    fired = {case["alertname"] for case in cases if case["exp_alerts"]}
    assert fired == {alert["alert"] for alert in alerts()}


def test_every_alert_has_a_runbook() -> None:
    for alert in alerts():
        file, _, anchor = alert["annotations"]["runbook"].partition("#")
        headings = re.findall(r"^## (.+)$", (ROOT / file).read_text(), re.MULTILINE)
        assert anchor in {heading.lower() for heading in headings}, alert["alert"]
        assert alert["labels"]["severity"] in {"page", "ticket"}
