"""What the monitor found: as tables for people, JSON for programs, and metrics for Prometheus."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from adclick.pipeline.config.monitoring import MonitoringSettings
from adclick.pipeline.console import name_width, one_line, plain_console
from adclick.pipeline.monitor import checks
from adclick.pipeline.monitor.baseline import TrafficBaseline
from adclick.pipeline.monitor.checks import Check, Interval, Performance, State
from adclick.pipeline.monitor.clicks import ClickCounts
from adclick.pipeline.monitor.traffic import LogCounts, ServedTraffic
from adclick.pipeline.runs.traffic_findings import TrafficFinding, write_finding
from adclick.schema.errors import AdclickError, SkewFound
from adclick.schema.times import moment_text

_WORDS = {"in_order": "in order", "alarm": "alarm", "not_judged": "not judged"}
_STYLES = {"in_order": "", "alarm": "bold red", "not_judged": "dim"}


@dataclass(frozen=True)
class VersionReport:
    """What was found of one version."""

    traffic: ServedTraffic
    checks: tuple[Check, ...]
    performance: Performance | None

    @property
    def state(self) -> State:
        """`alarm` if any check is; `in_order` if anything was judged."""
        states = {one.state for one in self.checks}
        return "alarm" if "alarm" in states else "in_order" if "in_order" in states else "not_judged"


@dataclass(frozen=True)
class MonitorReport:
    """What was found.

    Attributes:
        made_at: When, in seconds since 1970.
        log: What was read of the log.
        clicks: What became of the clicks; None without any.
        click_window: How long after its prediction a click may come, in seconds.
        clicks_until: All clicks up to this moment were taken to be there, in seconds since 1970.
        versions: By version, ascending.
    """

    made_at: float
    log: LogCounts
    clicks: ClickCounts | None
    click_window: float
    clicks_until: float | None
    versions: tuple[VersionReport, ...]

    @property
    def state(self) -> State:
        """`alarm` if any check is; `in_order` if anything was judged."""
        states = {one.state for one in self.versions}
        return "alarm" if "alarm" in states else "in_order" if "in_order" in states else "not_judged"

    @property
    def alarms(self) -> list[tuple[int, Check]]:
        """The alarms with their versions."""
        return [(one.traffic.version, check) for one in self.versions for check in one.checks if check.state == "alarm"]


def describe(check: Check) -> str:
    """A check in a line, for people."""
    where = f" of {check.column}" if check.column else ""
    name = {
        "drift": "the drift",
        "missing_rate": "the share of missing values",
        "unknown_rate": "the share of unknown values",
        "mean_prediction": "the mean prediction",
        "calibration_ratio": "the calibration ratio",
        "calibration_error": "the expected calibration error",
        "normalised_entropy": "the normalised entropy",
    }[check.name]
    text = f"{name}{where} is {check.observed:.4g}"
    if check.expected is not None:
        text += f", in training {check.expected:.4g}"
    if check.name == "calibration_ratio":
        return f"{text}; {check.detail}"
    if check.name in ("missing_rate", "unknown_rate", "mean_prediction"):
        text += f": {check.distance:.4g} apart"
    detail = f" ({check.detail})" if check.detail else ""
    return f"{text}; allowed are {check.threshold:g}, and {check.noise:.2g} by chance{detail}"


def version_reports(
    by_version: Mapping[int, ServedTraffic], settings: MonitoringSettings, *, has_clicks: bool
) -> tuple[VersionReport, ...]:
    """What is found of each version's traffic, ascending by version.

    Args:
        by_version: The traffic, with one prediction at least.
        settings: The thresholds.
        has_clicks: Whether clicks were looked for.
    """
    return tuple(
        VersionReport(
            traffic,
            tuple(checks.check(traffic, settings, has_clicks=has_clicks)),
            checks.performance(traffic, settings.least_clicks),
        )
        for _, traffic in sorted(by_version.items())
    )


def raise_alarms(report: MonitorReport) -> None:
    """Ends in words what stands further from training than it may.

    Raises:
        SkewFound: There is an alarm.
    """
    if report.alarms:
        raise SkewFound(
            "the traffic stands further from training than it may:\n"
            + "\n".join(f"  version {number}: {describe(check)}" for number, check in report.alarms),
            "Look at what callers send, at the newest drop, and at the thresholds: the schema's skew comparators and "
            "the config's `monitoring`.",
        )


# For people.


def print_report(console: Console, report: MonitorReport) -> None:
    """Prints the tables of each version, and the alarms last."""
    log = report.log
    left_out = {
        "out of the range of time": log.outside,
        "of other versions": log.other_versions,
        "of ads that were not shown": log.not_shown,
    }
    where = f" in {log.files:,} files" if log.files else ""
    _print(console, f"{log.predictions:,} predictions{where}{_listed(left_out)}")
    if report.clicks is not None:
        _print_clicks(console, report)
    for one in report.versions:
        console.print()
        _print_version(console, one)
    console.print()
    for version, check in report.alarms:
        _print(console, Text.assemble(("alarm", "bold red"), f" version {version}: {describe(check)}"))
    if report.state == "in_order":
        in_order = ("In order", "bold green")
        _print(console, Text.assemble(in_order, ": nothing that was judged stands further from training than it may."))
    elif report.state == "not_judged":
        unknown = ": no threshold could be tried, so that nothing says that the traffic is in order."
        _print(console, Text.assemble(("Not judged", "bold yellow"), unknown))


def _listed(counts: dict[str, int]) -> str:
    texts = [f"{count:,} {what}" for what, count in counts.items() if count]
    return f", of which {', '.join(texts)} do not count" if texts else ""


def _print_clicks(console: Console, report: MonitorReport) -> None:
    clicks = report.clicks
    assert clicks is not None
    window = report.click_window / 86_400
    _print(
        console,
        f"{clicks.rows:,} rows of clicks: {clicks.in_time:,} found their prediction within {window:.4g} days, "
        f"{clicks.late:,} came later, {clicks.early:,} before it, {clicks.unmatched:,} found none, "
        f"{clicks.duplicates:,} are duplicates, {clicks.outside:,} lie outside, {clicks.unreadable:,} are unreadable",
    )
    shares = {share for one in report.versions for share in one.traffic.sample_percents if not math.isnan(share)}
    if clicks.unmatched and shares and min(shares) < 100:
        expected = f"{min(shares):g}" if len(shares) == 1 else f"{min(shares):g} to {max(shares):g}"
        _print(console, f"  The log holds {expected} % of the requests: most clicks find none by design.")
    if report.clicks_until is not None:
        _print(console, f"  Clicks are taken as complete until {moment_text(report.clicks_until)}")


def _print_version(console: Console, report: VersionReport) -> None:
    traffic, baseline = report.traffic, report.traffic.baseline
    ads = traffic.predictions / traffic.requests
    _print(
        console,
        Text.assemble(
            (f"Version {traffic.version}", "bold"),
            f": {traffic.predictions:,} predictions for {traffic.requests:,} requests, "
            f"{moment_text(traffic.first)} to {moment_text(traffic.last)}",
        ),
    )
    if baseline is None:
        _print(
            console,
            Text.assemble(
                ("  What it was trained on is not known:", "yellow"),
                " no run of this project has pushed it, or its artifacts were deleted",
            ),
        )
    else:
        _print(
            console,
            f"  trained on {', '.join(baseline.months)}, {baseline.rows:,} impressions, by run {baseline.run_id}",
        )
        console.print(_column_table(report, baseline, name_width(console)))
    console.print(_prediction_table(report))
    if report.performance is not None:
        console.print(_performance_table(report.performance, baseline))
    elif traffic.labelled:
        _print(console, "No prediction's click window has passed: its clicks say nothing yet.")
    if ads > 1.01:
        _print(
            console,
            Text.assemble(
                (f"{ads:.3g} ads of a request count.", "yellow"),
                " If fewer are shown, name these with --shown: training data are of shown ads, and an ad that was not "
                "shown was not clicked.",
            ),
        )
    if traffic.hashed:
        _print(console, f"Hashed in the log, and so not compared by value: {', '.join(sorted(traffic.hashed))}")
    if any(one.state == "not_judged" and one.threshold is not None for one in report.checks):
        not_judged = "Dim numbers have a threshold, but too few requests or clicks to be judged by."
        _print(console, Text(not_judged, "dim"))


def _table(*headers: str) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for index, header in enumerate(headers):
        table.add_column(header, justify="right" if index else "left", no_wrap=True)
    return table


def _column_table(report: VersionReport, baseline: TrafficBaseline, width: int) -> Table:
    table = _table("column", "drift", "allowed", "missing: training", "log", "unknown: held out", "log")
    table.columns[0].max_width = width
    found = {(one.name, one.column): one for one in report.checks}
    for name in baseline.features.model_inputs:
        drift, missing, unknown = (found.get((what, name)) for what in ("drift", "missing_rate", "unknown_rate"))
        table.add_row(
            one_line(name),
            "-" if drift is None else _styled(f"{drift.observed:.3f}", drift),
            "-" if drift is None or drift.threshold is None else f"{drift.threshold:g} + {drift.noise:.3f}",
            "-" if missing is None else f"{missing.expected:.2%}",
            "-" if missing is None else _styled(f"{missing.observed:.2%}", missing),
            "-" if unknown is None else f"{unknown.expected:.2%}",
            "-" if unknown is None else _styled(f"{unknown.observed:.2%}", unknown),
        )
    return table


def _prediction_table(report: VersionReport) -> Table:
    table = _table("predictions", "training", "log", "distance", "allowed", "")
    for one in report.checks:
        if one.column:
            continue
        table.add_row(
            one.name.replace("_", " "),
            "-" if one.expected is None else f"{one.expected:.4f}",
            f"{one.observed:.4f}",
            f"{one.distance:.4f}",
            "-" if one.threshold is None else f"{one.threshold:g} + {one.noise:.3f}",
            _styled(_WORDS[one.state], one),
        )
    return table


def _performance_table(found: Performance, baseline: TrafficBaseline | None) -> Table:
    before = baseline.evaluation if baseline is not None else {}
    table = _table(f"{found.clicks:,} clicks of {found.predictions:,} labelled", "evaluation", "log", "95 % interval")
    for name, metric in found.metrics.items():
        evaluated = before.get(name)
        interval = "-" if metric.lower is None else f"{metric.lower:.4f} to {metric.upper:.4f}"
        table.add_row(
            name.replace("_", " "),
            "-" if evaluated is None else f"{evaluated:.4f}",
            "-" if metric.value is None else f"{metric.value:.4f}",
            interval,
        )
    return table


def _styled(text: str, check: Check) -> Text:
    return Text(text, _STYLES[check.state] if check.threshold is not None else "")


def _print(console: Console, text: str | Text) -> None:
    console.print(text, highlight=False, soft_wrap=True)


# For programs.


def as_document(report: MonitorReport) -> dict[str, Any]:
    """The report as JSON: numbers that are not finite become null; moments are in ISO 8601."""
    document = {
        "state": report.state,
        "made_at": moment_text(report.made_at),
        "log": dataclasses.asdict(report.log),
        "clicks": None if report.clicks is None else dataclasses.asdict(report.clicks),
        "click_window_seconds": report.click_window,
        "clicks_until": None if report.clicks_until is None else moment_text(report.clicks_until),
        "alarms": [f"version {version}: {describe(check)}" for version, check in report.alarms],
        "versions": [_version_document(one) for one in report.versions],
    }
    return _finite(document)


def _version_document(one: VersionReport) -> dict[str, Any]:
    traffic, baseline = one.traffic, one.traffic.baseline
    return {
        "version": traffic.version,
        "state": one.state,
        "baseline": None
        if baseline is None
        else {
            "run_id": baseline.run_id,
            "months": list(baseline.months),
            "rows": baseline.rows,
            "held_out_rows": baseline.held_out_rows,
            "click_rate": baseline.click_rate,
            "evaluation": dict(baseline.evaluation),
        },
        "requests": traffic.requests,
        "predictions": traffic.predictions,
        "first": moment_text(traffic.first),
        "last": moment_text(traffic.last),
        "mean_prediction": traffic.mean_prediction,
        "sample_percents": sorted(traffic.sample_percents),
        "hashed_columns": sorted(traffic.hashed),
        "creative_statuses": dict(traffic.creative_statuses),
        "checks": [dataclasses.asdict(check) for check in one.checks],
        "labelled": traffic.labelled,
        "clicked": traffic.clicked,
        "performance": None if one.performance is None else dataclasses.asdict(one.performance),
    }


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_json(report: MonitorReport, path: Path) -> None:
    """Writes the report as JSON, whole or not at all."""
    _write(path, json.dumps(as_document(report), indent=1))


def write_html(report: MonitorReport, path: Path) -> None:
    """Writes what `print_report` prints as a page of its own, whole or not at all."""
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        console = plain_console(nowhere, record=True, width=132)
        print_report(console, report)
    _write(path, console.export_html(inline_styles=True))


def keep_findings(output: str, report: MonitorReport, console: Console) -> None:
    """Keeps what was found of each version in the output folder; where that cannot be written to, it says so."""
    for one in report.versions:
        finding = TrafficFinding(
            version=one.traffic.version,
            made_at=report.made_at,
            first=float(one.traffic.first),
            last=float(one.traffic.last),
            predictions=int(one.traffic.predictions),
            state=one.state,
            judged=sum(check.state != "not_judged" for check in one.checks),
            alarms=[describe(check) for check in one.checks if check.state == "alarm"],
        )
        try:
            write_finding(output, finding)
        except (AdclickError, OSError) as error:
            console.print(f"warning: the finding is not kept for the console: {error}", style="yellow", soft_wrap=True)
            return


def _write(path: Path, text: str) -> None:
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_prometheus(report: MonitorReport, path: Path) -> None:
    """Writes metrics for a node exporter's textfile collector, whole or not at all."""
    from prometheus_client import CollectorRegistry, Gauge, write_to_textfile

    registry = CollectorRegistry()

    def gauge(name: str, about: str, *labels: str) -> Gauge:
        return Gauge(f"adclick_monitor_{name}", about, labels, registry=registry)

    gauge("run_timestamp_seconds", "When the monitor last ran, in seconds since 1970.").set(report.made_at)
    alarms = gauge("alarms", "Checks that raise an alarm.", "version")
    predictions = gauge("predictions", "Logged predictions that were looked at.", "version")
    mean = gauge("mean_prediction", "Mean predicted click probability.", "version")
    of_check = ("version", "check", "column")
    alarm = gauge("alarm", "1 where a check raises an alarm, 0 where it does not.", *of_check)
    distance = gauge("distance", "The distance that a check holds against its threshold.", *of_check)
    threshold = gauge("threshold", "What a check's distance must not exceed by more than the noise.", *of_check)
    noise = gauge("noise", "How much of a check's distance chance explains.", *of_check)
    observed = gauge("observed", "What a check observes in the traffic.", *of_check)
    metric = gauge("metric", "A metric of the predictions whose clicks are known.", "version", "metric")
    lower = gauge("metric_lower", "The lower bound of a metric's 95 % confidence interval.", "version", "metric")
    upper = gauge("metric_upper", "The upper bound of a metric's 95 % confidence interval.", "version", "metric")
    for one in report.versions:
        version = str(one.traffic.version)
        alarms.labels(version).set(sum(check.state == "alarm" for check in one.checks))
        predictions.labels(version).set(one.traffic.predictions)
        mean.labels(version).set(one.traffic.mean_prediction)
        for check in one.checks:
            labels = (version, check.name, check.column)
            distance.labels(*labels).set(check.distance)
            observed.labels(*labels).set(check.observed)
            if check.threshold is not None:
                threshold.labels(*labels).set(check.threshold)
                noise.labels(*labels).set(check.noise)
            if check.state != "not_judged":
                alarm.labels(*labels).set(check.state == "alarm")
        if one.performance is not None:
            for name, interval in one.performance.metrics.items():
                _set_interval((metric, lower, upper), (version, name), interval)
    if report.clicks is not None:
        clicks = gauge("clicks", "Rows of clicks by what became of them.", "outcome")
        for outcome, count in dataclasses.asdict(report.clicks).items():
            if outcome != "rows":
                clicks.labels(outcome).set(count)
    write_to_textfile(str(path), registry)


def _set_interval(gauges: tuple[Any, Any, Any], labels: tuple[str, str], interval: Interval) -> None:
    for one, value in zip(gauges, (interval.value, interval.lower, interval.upper), strict=True):
        if value is not None:
            one.labels(*labels).set(value)
