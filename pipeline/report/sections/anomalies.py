"""Where months do not fit the curated schema."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from adclick.pipeline.report.facts import RunReport


def anomaly_facts(report: RunReport) -> Mapping[str, Any]:
    """All anomalies, of every month."""
    return {"anomalies": [anomaly for month in report.months for anomaly in month.anomalies or ()]}
