"""Gathers a run's facts from its record, its artifacts and the metadata store. It only reads."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from adclick.components.drift_detector.component import DRIFT_FILE
from adclick.components.drift_detector.distances import DriftReport, read_drift
from adclick.models.trainer import HISTORY_FILE
from adclick.pipeline.config.settings import Config
from adclick.pipeline.report.behaviour import observe
from adclick.pipeline.report.facts import Behaviour, FeatureFacts, LineageFacts, Month, RunReport
from adclick.pipeline.report.ingestion import read_month
from adclick.pipeline.report.lineage import read_lineage, time_steps
from adclick.pipeline.report.statistics import read_features
from adclick.pipeline.runs.record import RunRecord
from adclick.storage import filesystem

_STORE_FILE = "metadata.sqlite"

_Part = TypeVar("_Part")


def gather(output: str, record: RunRecord) -> RunReport:
    """Reads what there is of a run; what cannot be read is named in the report's problems.

    Args:
        output: The output folder.
        record: The run.
    """
    problems: list[str] = []

    def part(what: str, read: Callable[[], _Part], otherwise: _Part) -> _Part:
        try:
            return read()
        except Exception as error:  # A missing part must not cost the page.
            logging.getLogger("adclick").exception("the report lacks %s", what)
            problems.append(f"{what}: {type(error).__name__}: {str(error)[:300]}")
            return otherwise

    config = part("config", lambda: Config.model_validate(record.config), None)
    no_features: list[FeatureFacts] = []
    no_history: Mapping[str, tuple[float, ...]] = {}
    no_behaviour: Behaviour | None = None
    lineage = LineageFacts()
    if record.platform is None:  # a platform keeps its metadata itself
        lineage = part("lineage", lambda: read_lineage(Path(output) / _STORE_FILE, record), LineageFacts())
    return RunReport(
        record=record,
        written=datetime.now(UTC),
        months=tuple(
            part(f"the data of {drop.name}", lambda drop=drop: read_month(record, drop), Month(drop))  # type: ignore[misc]
            for drop in record.drops
        ),
        features=tuple(
            part("statistics", lambda: read_features(record, config.features), no_features) if config else no_features
        ),
        drift=part("drift", lambda: _drift(record), None),
        history=part("training curves", lambda: _history(record), no_history),
        behaviour=part("the model's behaviour", lambda: observe(config, record), no_behaviour) if config else None,
        steps=tuple(time_steps(record, lineage)),
        lineage=lineage,
        problems=tuple(problems),
    )


def _drift(record: RunRecord) -> DriftReport | None:
    for output, uris in record.artifacts.items():
        component, _, name = output.partition(".")
        if component.startswith("DriftDetector") and name == "drift" and uris:
            with filesystem.open_read(filesystem.join(uris[-1], DRIFT_FILE)) as stream:
                found = read_drift(stream.read())
            furthest = sorted(found.features, key=lambda one: (not one.beyond, -one.distance))
            return found.model_copy(update={"features": tuple(furthest)})
    return None


def _history(record: RunRecord) -> Mapping[str, tuple[float, ...]]:
    for uri in record.artifacts.get("ClickTrainer.model_run", []):
        with filesystem.open_read(filesystem.join(uri, HISTORY_FILE)) as stream:
            return {name: tuple(values) for name, values in json.loads(stream.read()).items()}
    return {}
