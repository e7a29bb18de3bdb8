"""Run records: what each run read, did, measured, decided and pushed, as JSON beside the artifacts."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

RECORD_FILE = "run.json"
LOG_FILE = "run.log"
REPORT_FILE = "report.html"
COMPARISON_FILE = "comparison.json"


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", protected_namespaces=())


class MonthRecord(_Part):
    """A month of the window.

    Attributes:
        name: The month.
        uri: Where its drop is.
        fingerprint: Changes when any file of the drop does.
        version: Which delivery of the month it is, from 1.
        gate_key: Changes when the drop, or what it is judged by, does.
        left_out: Why it was left out; None if it was taken.
    """

    name: str
    uri: str
    fingerprint: str
    version: int
    gate_key: str
    left_out: str | None = None


class DropRecord(_Part):
    """What one month's ingestion counted."""

    name: str
    uri: str
    rows_in: int
    rows_examples: int
    rows_quarantined: int
    rows_duplicate: int
    quarantined_by_reason: dict[str, int]
    creatives_by_status: dict[str, int]
    quarantine_uri: str


class StepRecord(_Part):
    """One component's part in the run."""

    name: str
    seconds: float
    reused: bool


class MetricRecord(_Part):
    """A metric with its 95 % confidence interval; None where it is not defined, as the AUC without a click."""

    value: float | None
    lower: float | None = None
    upper: float | None = None

    @classmethod
    def defined(cls, value: float, lower: float | None, upper: float | None) -> MetricRecord:
        """A metric, None in place of NaN and infinities."""
        finite = [None if bound is None or not math.isfinite(bound) else bound for bound in (value, lower, upper)]
        return cls(value=finite[0], lower=finite[1], upper=finite[2])


class SliceRecord(_Part):
    """The metrics of one slice for the candidate, the baseline, or their difference, the `change`."""

    slice: str
    model: str
    metrics: dict[str, MetricRecord]


class RunRecord(_Part):
    """One run.

    Attributes:
        state: `running` until the run ends; a run that was killed stays so. `held` is a blessed model that is not
            served, because of a roll-back.
        window: The months of the window, those that were left out too.
        missing_months: Months of the window that were never delivered.
        refused_month: The month that was refused, if one was.
        drift: What drifted beyond its threshold, a line each.
        pushed_version: The version of the blessed model, be it served or held.
    """

    run_id: str
    state: Literal["running", "pushed", "held", "data_refused", "model_refused", "failed"] = "running"
    input_key: str
    config: dict[str, object]
    code_version: str = ""
    baseline: str | None
    started: datetime
    finished: datetime | None = None
    window: list[MonthRecord] = []
    missing_months: list[str] = []
    refused_month: str | None = None
    drift: list[str] = []
    drops: list[DropRecord] = []
    steps: list[StepRecord] = []
    evaluation: list[SliceRecord] = []
    evaluation_uri: str | None = None
    reasons: list[str] = []
    pushed_version: int | None = None
    artifacts: dict[str, list[str]] = {}

    @property
    def changes(self) -> list[SliceRecord]:
        """The candidate's metrics less the baseline's."""
        return [found for found in self.evaluation if found.model == "change"]

    @property
    def reused_everything(self) -> bool:
        return bool(self.steps) and all(step.reused for step in self.steps)


def runs_folder(output: str) -> Path:
    return Path(output) / "runs"


def record_folder(output: str, run_id: str) -> Path:
    return runs_folder(output) / run_id


def new_run_id(output: str) -> str:
    """A run id that sorts by time and is not taken."""
    base = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    candidates = [base, *(f"{base}-{number}" for number in range(2, 100))]
    return next(run_id for run_id in candidates if not record_folder(output, run_id).exists())


def write_record(output: str, record: RunRecord) -> None:
    """Writes a record whole or not at all."""
    folder = record_folder(output, record.run_id)
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f".{RECORD_FILE}"
    partial.write_text(record.model_dump_json(indent=1), encoding="utf-8")
    partial.replace(folder / RECORD_FILE)


def run_ids(output: str) -> list[str]:
    """The runs that have a record, the oldest first."""
    return sorted(file.parent.name for file in runs_folder(output).glob(f"*/{RECORD_FILE}"))


def read_record(output: str, run_id: str) -> RunRecord:
    """The record of a run."""
    file = record_folder(output, run_id) / RECORD_FILE
    return RunRecord.model_validate_json(file.read_text(encoding="utf-8"))


def read_records(output: str) -> list[RunRecord]:
    """All records, the oldest first."""
    return [read_record(output, run_id) for run_id in run_ids(output)]
