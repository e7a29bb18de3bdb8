"""What a report shows: the run's record and what was read or computed from its artifacts. Nothing here knows HTML."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from adclick.components.drift_detector.distances import DriftReport
from adclick.models.explanation import Importance
from adclick.models.soft_metrics import SoftMetrics
from adclick.pipeline.runs.record import DropRecord, MetricRecord, RunRecord


@dataclass(frozen=True)
class QuarantineExample:
    """A row that ingestion could not use.

    Attributes:
        file: The file, relative to the drop.
        line: Its first line in it, from 1.
        reason: See `components.ad_example_gen.reasons`.
        field: The column at fault; empty where the row as a whole is.
        value: What stood there, cut to a readable length.
        text: The row, cut to a readable length.
    """

    file: str
    line: int
    reason: str
    field: str
    value: str
    text: str


@dataclass(frozen=True)
class BrokenImage:
    """An image that ingestion could not use.

    Attributes:
        source: Where it was looked for.
        status: `missing`, `corrupt` or `oversized`.
        error: What was wrong with it.
    """

    source: str
    status: str
    error: str


@dataclass(frozen=True)
class Anomaly:
    """Where a month does not fit the curated schema.

    Attributes:
        split: `train` or `eval`.
        feature: The column; `data set` for the month as a whole.
        description: TFDV's words.
    """

    split: str
    feature: str
    description: str


@dataclass(frozen=True)
class Month:
    """A month of the window.

    Attributes:
        drop: What its ingestion counted.
        quarantined: Some quarantined rows, a few of each reason.
        broken_images: Some images that could not be used.
        anomalies: All of them; None where the month was not validated.
    """

    drop: DropRecord
    quarantined: tuple[QuarantineExample, ...] = ()
    broken_images: tuple[BrokenImage, ...] = ()
    anomalies: tuple[Anomaly, ...] | None = None


@dataclass(frozen=True)
class ValueShare:
    """A value of a column of names.

    Attributes:
        value: The value.
        share: Of the newest month's impressions, missing values left out.
        before: Of the window's earlier months; None without any.
    """

    value: str
    share: float
    before: float | None


@dataclass(frozen=True)
class HistogramFacts:
    """How a quantity is distributed.

    Attributes:
        low: Where the first cell begins.
        high: Where the last one ends; values beyond are left out.
        shares: Of the newest month's values, by cell.
        before: Of the window's earlier months' values, by the same cells; None without any.
    """

    low: float
    high: float
    shares: tuple[float, ...]
    before: tuple[float, ...] | None


@dataclass(frozen=True)
class FeatureFacts:
    """A column's statistics in the newest month, beside the window's earlier months.

    Attributes:
        name: The column.
        role: As declared in the config; `image status` for what ingestion adds.
        description: As declared.
        missing: Share of impressions without a value.
        missing_before: The same of the earlier months; None without any.
        distinct: How many values there are; None for quantities.
        distinct_is_exact: Whether there may be more.
        values: The most frequent names.
        histogram: Of a quantity.
        mean: Of a quantity, also of the label: the click rate.
        mean_before: The same of the earlier months; None without any.
    """

    name: str
    role: str
    description: str
    missing: float
    missing_before: float | None
    distinct: int | None = None
    distinct_is_exact: bool = True
    values: tuple[ValueShare, ...] = ()
    histogram: HistogramFacts | None = None
    mean: float | None = None
    mean_before: float | None = None


@dataclass(frozen=True)
class CalibrationPoint:
    """Impressions of similar prediction.

    Attributes:
        rows: How many there are.
        predicted: Their mean predicted probability.
        clicked: The share of them that was clicked, with its 95 % interval (Wilson 1927).
        truth: Their mean true probability; None where it is not known.
    """

    rows: int
    predicted: float
    clicked: MetricRecord
    truth: float | None


@dataclass(frozen=True)
class Reference:
    """A model or a known best on the held-out impressions.

    Attributes:
        name: What it is.
        overall: On all of them.
        new: On those of ads that the model does not know, if any.
        is_candidate: Whether it is this run's model.
    """

    name: str
    overall: SoftMetrics
    new: SoftMetrics | None
    is_candidate: bool = False


@dataclass(frozen=True)
class References:
    """The candidate between what it should beat and the best there can be.

    Attributes:
        lines: The best first only where the truth is known.
        against_truth: Whether scores are against the true click probability rather than the clicks.
        rows: Held-out impressions.
        new_rows: Those of an unknown ad.
    """

    lines: tuple[Reference, ...]
    against_truth: bool
    rows: int
    new_rows: int


@dataclass(frozen=True)
class CreativeLift:
    """What an image does to the predicted click probability of the impressions that showed it.

    Attributes:
        key: The creative.
        lift: Mean prediction with the image over mean prediction with an unknown one, less 1.
        impressions: Held-out impressions that showed it.
        predicted: Their mean predicted probability.
    """

    key: str
    lift: float
    impressions: int
    predicted: float


@dataclass(frozen=True)
class Picture:
    """A creative as a picture.

    Attributes:
        source: The image file.
        width: Of the original in pixels.
        height: Of the original in pixels.
        jpeg: A thumbnail.
    """

    source: str
    width: int
    height: int
    jpeg: bytes


@dataclass(frozen=True)
class Images:
    """The images that raise and that lower the predicted click probability most.

    Attributes:
        top: The highest lift first.
        bottom: The lowest lift first.
        creatives: How many were ranked.
        rows: Over how many held-out impressions.
        pictures: By creative.
    """

    top: tuple[CreativeLift, ...]
    bottom: tuple[CreativeLift, ...]
    creatives: int
    rows: int
    pictures: Mapping[str, Picture]


@dataclass(frozen=True)
class Behaviour:
    """What the candidate does on a bounded sample of the held-out impressions.

    Attributes:
        rows: Impressions in the sample.
        rows_held_out: Impressions that it was drawn from.
        calibration: Of the candidate, the lowest predictions first.
        baseline_calibration: Of the last blessed model; empty without one.
        references: The candidate beside what it should beat.
        images: None without images.
        importance: The most important first.
        importance_rows: Over how many impressions.
    """

    rows: int
    rows_held_out: int
    calibration: tuple[CalibrationPoint, ...]
    baseline_calibration: tuple[CalibrationPoint, ...] = ()
    references: References | None = None
    images: Images | None = None
    importance: tuple[Importance, ...] = ()
    importance_rows: int = 0


@dataclass(frozen=True)
class StepFacts:
    """A component's part in the run.

    Attributes:
        name: The component.
        seconds: What it took in this run.
        reused: Whether an earlier run's result was taken.
        seconds_when_executed: What it took when it was executed, from the metadata store; None if that is not known.
        executed: When that began.
    """

    name: str
    seconds: float
    reused: bool
    seconds_when_executed: float | None = None
    executed: datetime | None = None


@dataclass(frozen=True)
class Artifact:
    """An artifact of the run in the metadata store.

    Attributes:
        output: The component and the output's name, such as `ClickTrainer.model`.
        id: Its number in the metadata store.
        type: Its type.
        execution: The number of the execution that made it.
        uri: Where it is.
    """

    output: str
    id: int
    type: str
    execution: int | None
    uri: str


@dataclass(frozen=True)
class LineageFacts:
    """What made the model.

    Attributes:
        artifacts: In the order of the steps.
        fingerprints: By month, what changes with any file of its drop.
        executions: By component, when the execution whose results were taken began and how many seconds it took.
    """

    artifacts: tuple[Artifact, ...] = ()
    fingerprints: Mapping[str, str] = field(default_factory=dict)
    executions: Mapping[str, tuple[datetime, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class RunReport:
    """All that one page shows; what a run did not get to is None or empty.

    Attributes:
        record: The run.
        written: When the report was.
        months: The oldest first.
        features: The newest month's columns, as declared.
        drift: The furthest moved first, those beyond their thresholds before all; None where the run measured none.
        history: By metric, its value after each epoch.
        behaviour: None where no model was trained.
        steps: In the order of the run.
        lineage: From the metadata store.
        problems: What could not be shown, and why.
    """

    record: RunRecord
    written: datetime
    months: tuple[Month, ...] = ()
    features: tuple[FeatureFacts, ...] = ()
    drift: DriftReport | None = None
    history: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    behaviour: Behaviour | None = None
    steps: tuple[StepFacts, ...] = ()
    lineage: LineageFacts = LineageFacts()
    problems: tuple[str, ...] = ()
