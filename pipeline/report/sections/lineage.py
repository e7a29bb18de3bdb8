"""What made the model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from adclick.pipeline.report.facts import RunReport


def lineage_facts(report: RunReport) -> Mapping[str, Any]:
    """The config as YAML."""
    return {"config": yaml.safe_dump(report.record.config, sort_keys=False, allow_unicode=True)}
