"""Run records: what each run read, did, measured, decided and pushed, as JSON beside the artifacts.

A local run keeps its record in a local folder, one on a platform in the bucket that is its `output`.
"""

from __future__ import annotations

import math
from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from adclick.components.ad_example_gen.drop_names import PassedOver
from adclick.pipeline.runs.record_store import Record, RecordStore

RECORD_FILE = "run.json"
LOG_FILE = "run.log"
REPORT_FILE = "report.html"
COMPARISON_FILE = "comparison.json"
#: Of the normal distribution, for intervals of 95 %.
_QUANTILE = 1.959964


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


class UnknownColumn(_Part):
    """A column of a month that the config does not declare.

    Attributes:
        share_filled: The share of the month's rows in which it holds a value.
        values: Its first values.
    """

    share_filled: float
    values: list[str]


class DropRecord(_Part):
    """What one month's ingestion counted; older records do not count the examples by split.

    Attributes:
        images_by_reading: Image addresses by how their images were had: `unchanged`, not opened; `same_content`, read
            and not decoded; `new` and `changed`, decoded; `unusable`. Empty without a store of creatives.
        notes: What else a person should know of it, a line each.
    """

    name: str
    uri: str
    rows_in: int
    rows_examples: int
    rows_train: int = 0
    rows_validation: int = 0
    rows_eval: int = 0
    rows_quarantined: int
    rows_duplicate: int
    quarantined_by_reason: dict[str, int]
    creatives_by_status: dict[str, int]
    images_by_reading: dict[str, int] = {}
    quarantine_uri: str
    notes: list[str] = []
    unknown_columns: dict[str, UnknownColumn] = {}


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


def wilson_interval(count: int, rows: int) -> MetricRecord:
    """A share and its 95 % interval (Wilson 1927), which holds for small shares too; of no rows it is not defined."""
    if not rows:
        return MetricRecord(value=None)
    share, square = count / rows, _QUANTILE**2
    middle = (share + square / (2 * rows)) / (1 + square / rows)
    half = _QUANTILE * math.sqrt(share * (1 - share) / rows + square / (4 * rows**2)) / (1 + square / rows)
    return MetricRecord(value=share, lower=max(middle - half, 0.0), upper=min(middle + half, 1.0))


class SliceRecord(_Part):
    """The metrics of one slice for the candidate, the baseline, or their difference, the `change`."""

    slice: str
    model: str
    metrics: dict[str, MetricRecord]


class CopiesRecord(_Part):
    """Which of the newest month's rows stand elsewhere too.

    Attributes:
        held_out_rows: Validation and evaluation examples.
        held_out_in_training: How many of them stand in training, beyond what chance explains.
        held_out_equal: How many equal a training example in every column but identifier and label.
        notes: What of the month stands elsewhere, a line each.
    """

    held_out_rows: int
    held_out_in_training: int
    held_out_equal: int
    notes: list[str] = []

    def describe(self) -> str:
        """The count of held-out rows in training, in words."""
        return (
            f"{self.held_out_in_training:,} of {self.held_out_rows:,} held-out impressions stand in training too; by "
            f"chance or not, {self.held_out_equal:,} are like one in every column but identifier and label."
        )


class RunRecord(Record):
    """One run.

    Attributes:
        state: See `Record`; `held` is a blessed model that is not served, because of a roll-back.
        window: The months of the window, those that were left out too.
        planned_steps: All steps, in the order in which they begin; empty for a run on a platform.
        steps: Those that ended well.
        running_step: The one at work, or that the run ended in; None before the first and after the last.
        missing_months: Months of the window that were never delivered.
        unread: What of the data root was not read, relative to it; folders with a slash at the end.
        litter: How many files and folders that systems left behind were passed over.
        refused_month: The month that was refused, if one was.
        copies: Which rows of the newest month stand elsewhere too; None if the run did not come so far.
        drift: What drifted beyond its threshold, a line each.
        undecided: Thresholds that a blessed model's metrics are beyond no further than chance may have led them.
        pushed_version: The version of the blessed model, be it served or held.
        platform: The run's name at the platform that it runs on, empty if not known; None for a local run.
    """

    platform: str | None = None
    state: Literal["running", "pushed", "held", "data_refused", "model_refused", "failed", "killed"] = "running"
    input_key: str
    config: dict[str, object]
    code_version: str = ""
    baseline: str | None
    started: datetime
    finished: datetime | None = None
    window: list[MonthRecord] = []
    missing_months: list[str] = []
    unread: list[str] = []
    litter: int = 0
    refused_month: str | None = None
    copies: CopiesRecord | None = None
    drift: list[str] = []
    drops: list[DropRecord] = []
    planned_steps: list[str] = []
    steps: list[StepRecord] = []
    running_step: str | None = None
    evaluation: list[SliceRecord] = []
    evaluation_uri: str | None = None
    undecided: list[str] = []
    pushed_version: int | None = None
    artifacts: dict[str, list[str]] = {}

    @property
    def gated_metrics(self) -> frozenset[str]:
        """The metrics that the config's thresholds ask for."""
        evaluation: Any = self.config.get("evaluation", {})
        return frozenset(threshold["metric"] for threshold in evaluation.get("thresholds", []))

    @property
    def changes(self) -> list[SliceRecord]:
        """The candidate's metrics less the baseline's."""
        return [found for found in self.evaluation if found.model == "change"]

    @property
    def notes(self) -> list[str]:
        """What of the data the run did not use, a sentence each."""
        notes = PassedOver(self.unread, self.litter).describe()
        for number, drop in enumerate(self.drops):
            is_newest = number == len(self.drops) - 1
            for name, column in drop.unknown_columns.items():
                others = [other.name for other in self.drops if other is not drop and name in other.unknown_columns]
                if not is_newest and self.drops[-1].name in others:
                    continue  # told of the newest month
                if not is_newest and any(other > drop.name for other in others):
                    continue  # told of the later month
                values = ", ".join(repr(value) for value in column.values)
                notes.append(
                    f"{drop.name} has a column that the config does not declare: {name!r}, filled in "
                    f"{column.share_filled:.1%} of the rows"
                    + (f", first values {values}" if values else "")
                    + (f"; also in {', '.join(others)}" if others else "")
                    + ("." if is_newest else f"; {self.drops[-1].name} does not have it.")
                )
        return notes

    @property
    def reused_everything(self) -> bool:
        return bool(self.steps) and all(step.reused for step in self.steps)


_STORE = RecordStore(RECORD_FILE, RunRecord, is_elsewhere=lambda record: record.platform is not None)

write_record = _STORE.write
run_ids = _STORE.run_ids
read_record = _STORE.read


def find_record(output: str, run_id: str) -> RunRecord | None:
    """The record of a run; None if it has none."""
    return read_record(output, run_id) if _STORE.has(output, run_id) else None


def read_records(output: str) -> list[RunRecord]:
    """All records, the oldest first."""
    return [read_record(output, run_id) for run_id in run_ids(output)]
