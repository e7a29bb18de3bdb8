"""Prints what came of a run."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Console
from rich.table import Table

from pipeline.comparison import Comparison
from pipeline.run_record import MetricRecord, RunRecord
from pipeline.sample_data.reference import SoftMetrics

_COLUMNS = ("auc", "auc_precision_recall", "log_loss", "normalised_entropy", "calibration_ratio")


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in sorted(counts.items(), key=lambda item: -item[1])) or "none"


def print_summary(console: Console, record: RunRecord) -> None:
    """Prints rows in and quarantined, the evaluation, and whether the model was blessed and pushed."""
    if record.reused_everything:
        console.print("Nothing has changed since an earlier run: every step was reused.", style="bold")
    table = Table("month", "rows in", "examples", "quarantined", "duplicates", "creatives", title="Data")
    for drop in record.drops:
        quarantined = f"{drop.rows_quarantined:,}"
        if drop.quarantined_by_reason:
            quarantined += f" ({_counts(drop.quarantined_by_reason)})"
        table.add_row(
            drop.name,
            f"{drop.rows_in:,}",
            f"{drop.rows_examples:,}",
            quarantined,
            f"{drop.rows_duplicate:,}",
            _counts(drop.creatives_by_status),
        )
    console.print(table)
    if record.evaluation:
        console.print(_evaluation_table(record))
    if record.baseline is None:
        console.print("There was no blessed model to compare with: this is the first.", highlight=False)
    else:
        console.print(f"Compared with the last blessed model, {record.baseline}", highlight=False, soft_wrap=True)
    if record.state == "pushed":
        console.print(
            "[bold green]Blessed[/bold green]: every threshold is met, and served probabilities equal the evaluated "
            f"ones. Pushed as version [bold]{record.pushed_version}[/bold].",
            highlight=False,
        )


def _evaluation_table(record: RunRecord) -> Table:
    table = Table("slice", "rows", "click rate", *(name.replace("_", " ") for name in _COLUMNS))
    table.title = "Evaluation on the newest month's held-out impressions, with 95 % confidence intervals"
    several = any(found.model == "baseline" for found in record.evaluation)
    if several:
        table = Table("slice", "model", "rows", "click rate", *table.columns[3:], title=table.title)
    for found in record.evaluation:
        cells = [found.slice]
        if several:
            cells.append(found.model)
        metrics = found.metrics
        cells.append(_formatted(metrics.get("example_count"), ",.0f"))
        cells.append(_formatted(metrics.get("click_rate"), ".2%"))
        cells += [_metric(metrics.get(name)) for name in _COLUMNS]
        table.add_row(*cells, style="bold" if found.slice == "overall" else None)
    return table


def _formatted(metric: MetricRecord | None, form: str) -> str:
    return "-" if metric is None or metric.value is None else format(metric.value, form)


def _metric(metric: MetricRecord | None) -> str:
    if metric is None or metric.value is None:
        return "-"
    text = f"{metric.value:.4f}"
    if metric.lower is not None and metric.upper is not None:
        text += f" ±{(metric.upper - metric.lower) / 2:.4f}"
    return text


def print_comparison(console: Console, comparison: Comparison) -> None:
    """Prints the model beside what it should beat and, for sample data, the known best."""
    against = "the true click probability" if comparison.against_truth else "the clicks"
    table = Table(
        "",
        "AUC",
        "log loss",
        "normalised entropy",
        "calibration ratio",
        "AUC, new ads",
        "log loss, new ads",
        title=f"{comparison.rows:,} held-out impressions scored against {against}; {comparison.new_rows:,} of new ads",
    )
    for line in comparison.lines:
        table.add_row(line.name, *_scores(line.overall), *(_scores(line.new)[:2] if line.new else ("-", "-")))
    console.print(table)


def _scores(metrics: SoftMetrics) -> tuple[str, str, str, str]:
    return (
        f"{metrics.auc:.4f}",
        f"{metrics.log_loss:.5f}",
        f"{metrics.normalised_entropy:.4f}",
        f"{metrics.calibration_ratio:.3f}",
    )
