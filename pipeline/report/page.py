"""Turns a report's facts into one HTML page that loads nothing else."""

from __future__ import annotations

import base64
import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import jinja2

from adclick.pipeline.report import plots
from adclick.pipeline.report.facts import FeatureFacts, RunReport
from adclick.pipeline.report.sections import SECTIONS
from adclick.pipeline.report.sections.outcome import overall
from adclick.pipeline.runs.record import MetricRecord, RunRecord

_VERDICTS = {
    "pushed": "Pushed",
    "held": "Held back",
    "model_refused": "Model refused",
    "data_refused": "Data refused",
    "failed": "Failed",
    "killed": "Killed",
    "running": "Unfinished",
}
_KNOWN = "_known"


def page_environment(filters: Mapping[str, Callable[..., Any]]) -> jinja2.Environment:
    """The templates of pages, in which numbers pass `count`, `seconds`, `moment` and the filters given."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("adclick.pipeline.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    shared = {"count": lambda value: f"{value:,.0f}", "seconds": seconds, "moment": moment}
    environment.filters |= {**shared, **filters}
    return environment


@functools.lru_cache(maxsize=1)
def _environment() -> jinja2.Environment:
    """The report's templates; to compile them costs more than to fill them in."""
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
    return page_environment(filters)


def render(report: RunReport) -> str:
    """The page."""
    record, months = report.record, report.months
    shared = {
        "report": report,
        "record": record,
        "months": months,
        "newest": months[-1].drop.name if months else None,
        "total_seconds": _total_seconds(record),
    }
    templates = _environment()
    sections = [
        {
            "name": section.name,
            "title": section.title,
            "html": templates.get_template(f"sections/{section.name}.html.j2").render(
                **shared, **section.facts(report)
            ),
        }
        for section in SECTIONS
    ]
    return templates.get_template("report.html.j2").render(
        **shared, sections=sections, verdict=_VERDICTS[record.state], headline=headline(record)
    )


def _total_seconds(record: RunRecord) -> float | None:
    return None if record.finished is None else (record.finished - record.started).total_seconds()


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
    difference = overall(record.changes, "log_loss")
    if difference is None or difference.value is None or difference.lower is None or difference.upper is None:
        return "it stays within what it may lose against the last blessed model"
    if difference.upper < 0:
        return "it is better than the last blessed model"
    if difference.lower > 0:
        return "it is worse than the last blessed model, within what is allowed"
    return "it does not clearly differ from the last blessed model"


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
