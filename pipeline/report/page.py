"""Turns a report's facts into one HTML page that loads nothing else."""

from __future__ import annotations

import base64
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import jinja2
import yaml

from adclick.models.metrics import BY_NAME, shown
from adclick.pipeline.report import plots
from adclick.pipeline.report.facts import FeatureFacts, RunReport
from adclick.pipeline.runs.record import MetricRecord, RunRecord, SliceRecord

_VERDICTS = {
    "pushed": "Pushed",
    "held": "Held back",
    "model_refused": "Model refused",
    "data_refused": "Data refused",
    "failed": "Failed",
    "killed": "Killed",
    "running": "Unfinished",
}
#: The metrics that people read first, and those that the evaluation draws as strips.
_FIGURES = ("auc", "log_loss", "normalised_entropy", "calibration_ratio")
_STRIPS = ("auc", "normalised_entropy", "calibration_ratio")
_SLICES_SHOWN = 60
_KNOWN = "_known"


def page_template(name: str, filters: Mapping[str, Callable[..., Any]]) -> jinja2.Template:
    """A page's template, in which numbers pass `count`, `seconds`, `moment` and the filters given."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("adclick.pipeline.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    shared = {"count": lambda value: f"{value:,.0f}", "seconds": seconds, "moment": moment}
    environment.filters |= {**shared, **filters}
    return environment.get_template(name)


@functools.lru_cache(maxsize=1)
def _template() -> jinja2.Template:
    """The page's template; to compile it costs more than to fill it in."""
    filters: dict[str, Callable[..., Any]] = {
        "percent": percent,
        "signed_percent": lambda value: _signed(value * 100, ".0f") + "\u00a0%",
        "metric": metric,
        "interval": interval,
        "signed": lambda value, form=".4f": _signed(value, form),
        "data_uri": lambda content: "data:image/jpeg;base64," + base64.b64encode(content).decode(),
        "slice_title": slice_title,
        "words": lambda name: name.replace("_", " "),
        "histogram": plots.histogram,
        "quantity": quantity,
        "axis_end": axis_end,
    }
    return page_template("report.html.j2", filters)


def render(report: RunReport) -> str:
    """The page."""
    record = report.record
    metrics = shown(record.gated_metrics)
    return _template().render(
        report=report,
        record=record,
        verdict=_VERDICTS[record.state],
        headline=headline(record),
        figures=figures(record),
        evaluation=evaluation(record),
        metrics={name: metric.title for name, metric in metrics.items()},
        explanations={name: metric.meaning for name, metric in metrics.items()},
        loss_chart=loss_chart(report),
        auc_chart=auc_chart(report),
        best_epoch=best_epoch(report),
        calibration=calibration_chart(report),
        config=yaml.safe_dump(record.config, sort_keys=False, allow_unicode=True),
        longest_step=max((step.seconds for step in report.steps), default=0.0),
        total_seconds=None if record.finished is None else (record.finished - record.started).total_seconds(),
        push_base=_push_base(record),
    )


@dataclass(frozen=True)
class Headline:
    """What came of the run, in one sentence.

    Attributes:
        sentence: The sentence.
        others: How many more reasons there are.
    """

    sentence: str
    others: int = 0


def headline(record: RunRecord) -> Headline:
    """Says what came of the run and why."""
    if record.state == "running":
        return Headline("The run has not ended.")
    if record.state == "pushed":
        again = " Nothing had changed since an earlier run: every step was reused." if record.reused_everything else ""
        said = f"every threshold is met, and {_against_baseline(record)}.{again}"
        return Headline(f"Version {record.pushed_version} was pushed: {said}")
    what = {
        "held": "The model is blessed and not served",
        "model_refused": "The model was refused and not pushed",
        "data_refused": "The data were refused before training",
        "failed": "The run failed",
        "killed": "The run was killed",
    }[record.state]
    reasons = record.reasons or ["no reason was recorded"]
    return Headline(f"{what} – {reasons[0].rstrip('. ')}.", len(reasons) - 1)


def _against_baseline(record: RunRecord) -> str:
    if record.baseline is None:
        return "there was no blessed model to compare with"
    difference = _overall(record.changes, "log_loss")
    if difference is None or difference.value is None or difference.lower is None or difference.upper is None:
        return "it stays within what it may lose against the last blessed model"
    if difference.upper < 0:
        return "it is better than the last blessed model"
    if difference.lower > 0:
        return "it is worse than the last blessed model, within what is allowed"
    return "it does not clearly differ from the last blessed model"


@dataclass(frozen=True)
class Figure:
    """A key figure of the run.

    Attributes:
        name: The metric.
        value: The candidate's, with its interval.
        difference: To the baseline, with its interval; None without a baseline.
        required: What the config asks of it.
        missed: Whether it is named in a reason for a refusal.
    """

    name: str
    value: MetricRecord
    difference: MetricRecord | None
    required: str
    missed: bool


def figures(record: RunRecord) -> list[Figure]:
    """The overall metrics that people read first or thresholds ask for; none where nothing was evaluated."""
    found = []
    for name in (*_FIGURES, *sorted(record.gated_metrics - {*_FIGURES})):
        value = _overall(record.evaluation, name)
        if value is not None and value.value is not None:
            missed = any(f"{name} in slice overall is" in reason for reason in record.reasons)
            found.append(Figure(name, value, _overall(record.changes, name), _required(record, name), missed))
    return found


def _required(record: RunRecord, name: str) -> str:
    evaluated: Any = record.config.get("evaluation", {})
    bounds = []
    for threshold in evaluated.get("thresholds", []):
        if threshold["metric"] == name and not threshold["slice"]:
            bounds += [f"at least {threshold['lower']:g}"] if threshold["lower"] is not None else []
            bounds += [f"at most {threshold['upper']:g}"] if threshold["upper"] is not None else []
            if threshold["max_drop"] is not None and record.baseline is not None:
                bounds.append(f"no worse than the last blessed model by {threshold['max_drop']:g}")
    return ", ".join(bounds)


def _overall(slices: Sequence[SliceRecord], name: str, model: str | None = None) -> MetricRecord | None:
    for found in slices:
        if found.slice == "overall" and (model is None or found.model == model):
            return found.metrics.get(name)
    return None


@dataclass(frozen=True)
class SliceRow:
    """A slice's line in the evaluation.

    Attributes:
        slice: As in the record.
        candidate: The candidate's metrics.
        baseline: The baseline's; None without one.
        difference: The candidate's less the baseline's; None without one.
        strips: By metric.
    """

    slice: str
    candidate: SliceRecord
    baseline: SliceRecord | None
    difference: SliceRecord | None
    strips: dict[str, plots.Strip]


@dataclass(frozen=True)
class Evaluation:
    """The evaluation by slice; `hidden` slices, the smallest, are left out."""

    rows: tuple[SliceRow, ...]
    has_baseline: bool
    hidden: int
    scales: dict[str, plots.Scale]


def evaluation(record: RunRecord) -> Evaluation | None:
    """Arranges the evaluation; None where nothing was evaluated."""
    candidates = {found.slice: found for found in record.evaluation if found.model == "candidate"}
    baselines = {found.slice: found for found in record.evaluation if found.model == "baseline"}
    differences = {found.slice: found for found in record.changes}
    if not candidates:
        return None

    def size(found: SliceRecord) -> float:
        return found.metrics["example_count"].value or 0.0

    largest = set(sorted(candidates, key=lambda name: -size(candidates[name]))[:_SLICES_SHOWN])
    shown = {name: found for name, found in candidates.items() if name in largest}
    scales = {}
    for name in _STRIPS:
        overall = candidates["overall"].metrics.get(name) if "overall" in candidates else None
        # A strip's line stands where a sound model's value does, or the candidate's overall.
        sound = BY_NAME[name].sound
        reference = sound if sound is not None else overall.value if overall else None
        found = [metrics[name] for metrics in (one.metrics for one in shown.values()) if name in metrics]
        scales[name] = plots.scale_of(found, reference)
    rows = tuple(
        SliceRow(
            name,
            found,
            baselines.get(name),
            differences.get(name),
            {
                metric_name: scale.strip(
                    found.metrics.get(metric_name),
                    baselines[name].metrics.get(metric_name) if name in baselines else None,
                )
                for metric_name, scale in scales.items()
            },
        )
        for name, found in shown.items()
    )
    return Evaluation(rows, bool(baselines), len(candidates) - len(shown), scales)


def best_epoch(report: RunReport) -> int | None:
    """The epoch, from 0, whose log loss of validation is the lowest."""
    losses = report.history.get("val_log_loss", ())
    return min(range(len(losses)), key=lambda epoch: losses[epoch]) if losses else None


def loss_chart(report: RunReport) -> plots.Chart | None:
    """Log loss by epoch."""
    history = report.history
    if not history.get("log_loss") or not history.get("val_log_loss"):
        return None
    lines = {"training": history["log_loss"], "candidate": history["val_log_loss"]}
    return plots.curves(lines, "log loss", best_epoch(report))


def auc_chart(report: RunReport) -> plots.Chart | None:
    """Held-out AUC by epoch."""
    values = [value for value in report.history.get("val_auc", ()) if math.isfinite(value)]
    return plots.curves({"candidate": values}, "AUC", best_epoch(report)) if values else None


def calibration_chart(report: RunReport) -> plots.Chart | None:
    """Share clicked by predicted probability."""
    if report.behaviour is None or not report.behaviour.calibration:
        return None
    return plots.calibration(report.behaviour.calibration, report.behaviour.baseline_calibration)


def _push_base(record: RunRecord) -> str:
    serving: Any = record.config.get("serving", {})
    default = f"{record.config.get('output', '')}/serving_model/{serving.get('model_name', '')}"
    return serving.get("push_directory") or default


def percent(share: float, digits: int = 2) -> str:
    """Such as 4.42 %; small shares keep a digit that is not 0."""
    if 0 < share < 0.5 * 10 ** -(digits + 2):
        return f"<\u00a0{10**-digits:.{digits}f}\u00a0%"
    return f"{share * 100:.{digits}f}\u00a0%"


def seconds(value: float) -> str:
    """Such as 0.02 s, 3.4 s, 2 min 5 s."""
    if value < 0.095:
        return f"{value:.2f}\u00a0s"
    if value < 60:
        return f"{value:.1f}\u00a0s"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes}\u00a0min {rest}\u00a0s"


def moment(value: datetime) -> str:
    """In Coordinated Universal Time, as the records are."""
    return value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def metric(found: MetricRecord | None) -> str:
    """Four decimals, or a dash."""
    return "–" if found is None or found.value is None else f"{found.value:.4f}"


def interval(found: MetricRecord | None, signed: bool = False) -> str:
    """Such as `0.7228 to 0.7865`; empty without an interval."""
    if found is None or found.lower is None or found.upper is None:
        return ""
    ends = [_signed(end, ".4f") if signed else f"{end:.4f}" for end in (found.lower, found.upper)]
    return " to ".join(ends)


def _signed(value: float, form: str) -> str:
    text = format(abs(value), form)
    if float(text.replace(",", "")) == 0:
        return text
    return ("+" if value > 0 else "−") + text


def quantity(value: float) -> str:
    """A number of unknown size, in few digits."""
    if value == 0:
        return "0"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def axis_end(value: float, feature: FeatureFacts) -> str:
    """The end of a histogram's range: a day for times."""
    if feature.role == "timestamp" and 0 <= value < 32_503_680_000:
        return datetime.fromtimestamp(value, UTC).strftime("%Y-%m-%d")
    return quantity(value)


def slice_title(name: str) -> str:
    """A slice as people say it."""
    if name == "overall":
        return "All held-out impressions"
    column, _, value = name.partition("=")
    if column.endswith(_KNOWN) and value in ("known", "new"):
        return f"{column.removesuffix(_KNOWN)}: {value} to the model"
    return name.replace("=", " = ")
