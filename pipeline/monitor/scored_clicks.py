"""`adclick stream monitor`: judged clicks against what the model was trained on, and against verdicts on them.

A judged click is a prediction like those of the gateway's log, and a verdict on it is its label, so that all that is
said of traffic is said of clicks in the same words. Besides, verdicts tell how good the alerts are.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from adclick.pipeline.config.settings import Config
from adclick.pipeline.monitor.baseline import known_baseline
from adclick.pipeline.monitor.clicks import Keys
from adclick.pipeline.monitor.report import MonitorReport, as_document, print_report, raise_alarms, version_reports
from adclick.pipeline.monitor.traffic import LoggedBatch, Selection, TrafficReader, batch_of
from adclick.pipeline.runs.record import wilson_interval
from adclick.schema.errors import DataRefused
from adclick.schema.feature_table import FeatureTable, Label, MultiValued, RawType, Timestamp, label_key
from adclick.serving.gateway.prediction_log import (
    CLICK_PROBABILITY,
    IMPRESSION_ID,
    LOGGED_AT,
    MODEL_VERSION,
    REQUEST_ID,
    SAMPLE_PERCENT,
    logged_name,
)
from adclick.stream.clicks import ScoredClick, read_scored
from adclick.stream.history.backfill import verdicts_of
from adclick.stream.settings import StreamSettings
from adclick.stream.stages.reading import messages_until_now

Bools = npt.NDArray[np.bool_]

_BATCH_CLICKS = 8_192


@dataclass
class Alerting:
    """What verdicts say of the alerting clicks of a version, over the clicks that have a verdict.

    Attributes:
        caught: Fraudulent ones that were alerting.
        missed: Fraudulent ones that were not.
        false: Honest ones that were alerting.
        passed: Honest ones that were not.
    """

    caught: int = 0
    missed: int = 0
    false: int = 0
    passed: int = 0

    def add(self, is_alerting: bool, is_fraud: bool) -> None:
        """Takes a click in."""
        if is_fraud:
            self.caught += is_alerting
            self.missed += not is_alerting
        else:
            self.false += is_alerting
            self.passed += not is_alerting

    @property
    def shares(self) -> dict[str, tuple[int, int]]:
        """By name: how many, of how many."""
        fraudulent, alerting = self.caught + self.missed, self.caught + self.false
        return {
            "recall": (self.caught, fraudulent),
            "precision": (self.caught, alerting),
            "false_positive_rate": (self.false, self.false + self.passed),
        }


@dataclass
class VerdictCounts:
    """What became of the verdicts, and of the clicks without one.

    Attributes:
        verdicts: Verdicts, the last on each click.
        changed: How many overruled an earlier one.
        unmatched: Verdicts on clicks that were not judged, or whose judgement is no longer in Kafka.
        unlabelled: Judged clicks without a verdict.
        late: Judged clicks that came late, and so have no features.
        no_probability: Judged clicks for which the model gave no probability.
        rejected: What was no verdict, in words.
    """

    verdicts: int = 0
    changed: int = 0
    unmatched: int = 0
    unlabelled: int = 0
    late: int = 0
    no_probability: int = 0
    rejected: list[str] = field(default_factory=list)


@dataclass
class StreamReport:
    """What was found.

    Attributes:
        traffic: What is found of any predictions.
        alerting: By version, what verdicts say of its alerting clicks.
        counts: What became of verdicts and clicks.
    """

    traffic: MonitorReport
    alerting: Mapping[int, Alerting]
    counts: VerdictCounts


@dataclass
class _VerdictJoin:
    """Tells judged clicks what they were found to be."""

    is_fraud: Mapping[str, bool]
    unlabelled_are_honest: bool
    counts: VerdictCounts
    alerting: dict[int, Alerting] = field(default_factory=dict)
    by: set[str] = field(default_factory=lambda: {IMPRESSION_ID})
    _labels: tuple[Bools, Bools] = field(default_factory=lambda: (np.zeros(0, bool), np.zeros(0, bool)))

    def look(self, clicks: Sequence[ScoredClick]) -> None:
        """Looks the next batch up."""
        found = [self.is_fraud.get(scored.click.id) for scored in clicks]
        self.counts.unlabelled += found.count(None)
        for scored, is_fraud in zip(clicks, found, strict=True):
            if is_fraud is not None:
                self.alerting.setdefault(scored.model_version, Alerting()).add(scored.is_alerting, is_fraud)
        known = np.array([is_fraud is not None or self.unlabelled_are_honest for is_fraud in found], bool)
        self._labels = np.array([bool(is_fraud) for is_fraud in found], bool), known

    def label(self, keys_by_name: Sequence[Keys], logged_at: npt.NDArray[np.float64]) -> tuple[Bools, Bools]:
        """Whether each click is fraud, and whether that is known [rows]."""
        return self._labels


def run_stream_monitor(
    config: Config,
    stream: StreamSettings,
    *,
    verdicts: str | None,
    json_file: str | None,
    quiet: bool,
    console: Console,
) -> None:
    """Reads the judged clicks that Kafka holds once, and says how far they stand from training and from verdicts.

    Args:
        config: The config.
        stream: Its section `stream`.
        verdicts: Files of verdicts, in place of the config's.
        json_file: Where to write what was found as JSON; `-` prints it instead of the tables.
        quiet: Whether to print alarms only.
        console: Where to print.

    Raises:
        ConfigError: There is no such file or topic.
        DataRefused: A verdict cannot be read, or no click has been judged.
        SkewFound: A check raises an alarm; everything is written all the same.
    """
    if verdicts is not None:
        stream = stream.model_copy(update={"history": stream.history.model_copy(update={"verdicts": verdicts})})
    topic = stream.topics.scored_clicks.name
    scored = (
        read_scored(message.value(), message.partition(), message.offset())
        for message in messages_until_now(stream.kafka, {topic}, "monitor")
    )
    report = report_of(config, stream, scored)
    text = json.dumps(document_of(report), indent=1)
    if json_file == "-":
        console.print_json(text)
    elif not quiet:
        print_stream_report(console, report)
    if json_file not in (None, "-"):
        with open(str(json_file), "w", encoding="utf-8") as file:
            file.write(text)
    raise_alarms(report.traffic)


def report_of(config: Config, stream: StreamSettings, scored: Iterable[ScoredClick]) -> StreamReport:
    """Adds judged clicks up by version.

    Raises:
        ConfigError: There are no such files or topic of verdicts.
        DataRefused: A verdict is none of the label's texts, or there is no judged click.
    """
    features = config.features
    found = verdicts_of(stream, features)
    counts = VerdictCounts()
    join = None
    if found is not None:
        counts.verdicts, counts.changed, counts.rejected = len(found.labels), found.changed, found.faults
        honest = stream.history.unlabelled == "negative"
        join = _VerdictJoin(_is_fraud(found.labels, features), honest, counts)
    reader = TrafficReader(Selection(), lambda number: known_baseline(config, number), join, None)
    matched = 0
    for clicks in _batches(scored):
        counts.late += sum(one.click.is_late for one in clicks)
        counts.no_probability += sum(one.fraud_probability is None for one in clicks)
        if join is not None:
            join.look(clicks)
            matched += len({one.click.id for one in clicks} & join.is_fraud.keys())
        reader.add(logged_batch(clicks, features))
    if not reader.by_version:
        raise DataRefused(
            f"no click has been judged: the topic {stream.topics.scored_clicks.name} is empty",
            "Is `adclick stream run` running, and does the topic keep its messages (stream.topics.scored_clicks)?",
        )
    counts.unmatched = max(0, counts.verdicts - matched)
    versions = version_reports(reader.by_version, config.monitoring, has_clicks=join is not None)
    traffic = MonitorReport(time.time(), reader.counts, None, 0.0, None, versions)
    return StreamReport(traffic, {} if join is None else dict(sorted(join.alerting.items())), counts)


def _is_fraud(labels: Mapping[str, str], features: FeatureTable) -> dict[str, bool]:
    label = features.root[features.label_name]
    assert isinstance(label, Label)
    values = label.values
    unknown = Counter(text for text in labels.values() if label_key(text) not in values)
    if unknown:
        ((text, number),) = unknown.most_common(1)
        raise DataRefused(
            f"verdicts: {features.label_name}: {text!r} ({number:,} verdicts) is neither of {', '.join(values)}",
            f"Correct them, or declare it in features.{features.label_name}: `positive` or `negative`.",
        )
    return {click: bool(values[label_key(text)]) for click, text in labels.items()}


def _batches(scored: Iterable[ScoredClick]) -> Iterator[list[ScoredClick]]:
    clicks = iter(scored)
    while batch := list(islice(clicks, _BATCH_CLICKS)):
        yield batch


def logged_batch(clicks: Sequence[ScoredClick], features: FeatureTable) -> LoggedBatch:
    """Judged clicks as predictions of the log: each a request of its own, named by its click's id."""

    def listed(values: Iterable[Any]) -> list[list[Any] | None]:
        return [None if value is None else [value] for value in values]

    names = [[one.click.id.encode()] for one in clicks]
    seconds = [[one.click.time // 1_000_000] for one in clicks]
    columns: dict[str, Sequence[list[Any] | None]] = {
        CLICK_PROBABILITY: listed(one.fraud_probability for one in clicks),
        MODEL_VERSION: [[one.model_version] for one in clicks],
        REQUEST_ID: names,
        IMPRESSION_ID: names,
        LOGGED_AT: seconds,
        SAMPLE_PERCENT: [[100.0]] * len(clicks),
    }
    for name, column in features.model_inputs.items():
        values = [one.click.value(name) for one in clicks]
        if isinstance(column, Timestamp):
            columns[logged_name(name)] = seconds
        elif features.raw_type(name) is RawType.FLOAT:
            columns[logged_name(name)] = listed(values)
        else:
            separator = column.separator if isinstance(column, MultiValued) else None
            columns[logged_name(name)] = [_texts(value, separator) for value in values]
    return batch_of(len(clicks), columns, features)


def _texts(value: str | float | None, separator: str | None) -> list[bytes] | None:
    if value is None:
        return None
    texts = str(value).split(separator) if separator else [str(value)]
    return [text.encode("utf-8", "surrogatepass") for text in texts]


def print_stream_report(console: Console, report: StreamReport) -> None:
    """Prints the tables of each version, what verdicts say of alerts, and the alarms last."""
    counts = report.counts
    if report.alerting or counts.verdicts:
        console.print(
            f"{counts.verdicts:,} verdicts, {counts.changed:,} of which overruled an earlier one; {counts.unmatched:,} "
            f"are on clicks that were not judged; {counts.unlabelled:,} judged clicks have none",
            highlight=False,
        )
    else:
        console.print("No verdicts were given: how good the alerts are is not known.", highlight=False)
    for fault in counts.rejected:
        console.print(fault, style="yellow", highlight=False)
    if counts.late or counts.no_probability:
        console.print(
            f"{counts.late:,} clicks came late and were judged without features; for {counts.no_probability:,} the "
            "model gave no probability",
            highlight=False,
        )
    if report.alerting:
        table = Table(box=SIMPLE_HEAD, pad_edge=False)
        for index, header in enumerate(("alerting clicks of version", "recall", "precision", "false positives")):
            table.add_column(header, justify="right" if index else "left", no_wrap=True)
        for version, alerting in report.alerting.items():
            table.add_row(str(version), *(_share_text(*share) for share in alerting.shares.values()))
        console.print(table)
    print_report(console, report.traffic)


def _share_text(count: int, of: int) -> str:
    share = wilson_interval(count, of)
    if share.value is None:
        return "unknown (0 of 0)"
    return f"{share.value:.2%} [{share.lower:.2%}, {share.upper:.2%}] ({count:,} of {of:,})"


def document_of(report: StreamReport) -> dict[str, Any]:
    """What was found, for programs."""
    alerting = {
        str(version): asdict(one)
        | {name: wilson_interval(count, of).model_dump() for name, (count, of) in one.shares.items()}
        for version, one in report.alerting.items()
    }
    return {**as_document(report.traffic), "verdicts": asdict(report.counts), "alerting": alerting}
