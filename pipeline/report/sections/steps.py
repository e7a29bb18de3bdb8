"""How long each step took."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from adclick.pipeline.report.facts import RunReport


def step_facts(report: RunReport) -> Mapping[str, Any]:
    """The longest step, in seconds."""
    return {"longest_step": max((step.seconds for step in report.steps), default=0.0)}
