"""How often impressions of a predicted probability are clicked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from adclick.pipeline.report import plots
from adclick.pipeline.report.facts import RunReport


def calibration_facts(report: RunReport) -> Mapping[str, Any]:
    """The chart."""
    return {"calibration": calibration_chart(report)}


def calibration_chart(report: RunReport) -> plots.Chart | None:
    """Share clicked by predicted probability."""
    if report.behaviour is None or not report.behaviour.calibration:
        return None
    return plots.calibration(report.behaviour.calibration, report.behaviour.baseline_calibration)
