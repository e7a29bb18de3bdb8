"""What came of the run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from adclick.models.metrics import shown
from adclick.pipeline.report.facts import RunReport
from adclick.pipeline.runs.record import MetricRecord, RunRecord, SliceRecord

#: The metrics that people read first.
_FIGURES = ("auc", "log_loss", "normalised_entropy", "calibration_ratio")


def outcome_facts(report: RunReport) -> Mapping[str, Any]:
    """The key figures, what they mean, and where the model was pushed."""
    record = report.record
    metrics = shown(record.gated_metrics)
    sizes = overall(record.evaluation, "example_count", "candidate")
    return {
        "figures": figures(record),
        "held_out_rows": None if sizes is None else sizes.value,
        "metrics": {name: metric.title for name, metric in metrics.items()},
        "explanations": {name: metric.meaning for name, metric in metrics.items()},
        "push_base": _push_base(record),
    }


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
        value = overall(record.evaluation, name)
        if value is not None and value.value is not None:
            missed = any(f"{name} in slice overall is" in reason for reason in record.reasons)
            found.append(Figure(name, value, overall(record.changes, name), _required(record, name), missed))
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


def overall(slices: Sequence[SliceRecord], name: str, model: str | None = None) -> MetricRecord | None:
    """A metric on all held-out impressions; None where it was not measured."""
    for found in slices:
        if found.slice == "overall" and (model is None or found.model == model):
            return found.metrics.get(name)
    return None


def _push_base(record: RunRecord) -> str:
    serving: Any = record.config.get("serving", {})
    default = f"{record.config.get('output', '')}/serving_model/{serving.get('model_name', '')}"
    return serving.get("push_directory") or default
