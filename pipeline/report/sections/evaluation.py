"""The evaluation by slice."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from adclick.models.metrics import BY_NAME, shown
from adclick.pipeline.report import plots
from adclick.pipeline.report.facts import RunReport
from adclick.pipeline.runs.record import RunRecord, SliceRecord

#: The metrics that are drawn as strips.
_STRIPS = ("auc", "normalised_entropy", "calibration_ratio")
_SLICES_SHOWN = 60


def evaluation_facts(report: RunReport) -> Mapping[str, Any]:
    """The slices' lines, and the metrics' titles."""
    metrics = shown(report.record.gated_metrics)
    return {
        "evaluation": evaluation(report.record),
        "metrics": {name: metric.title for name, metric in metrics.items()},
    }


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
