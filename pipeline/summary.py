"""Prints what came of a run."""

from __future__ import annotations

from collections.abc import Mapping

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from pipeline.comparison import Comparison
from pipeline.run_record import MetricRecord, RunRecord
from pipeline.sample_data.reference import SoftMetrics

_COLUMNS = {
    "auc": "AUC",
    "auc_precision_recall": "PR AUC",
    "log_loss": "log loss",
    "normalised_entropy": "norm. entropy",
    "calibration_ratio": "calibration",
}


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in sorted(counts.items(), key=lambda item: -item[1])) or "none"


def _table(*headers: str, title: str) -> Table:
    table = Table(title=title, box=SIMPLE_HEAD, title_justify="left", title_style="bold", pad_edge=False)
    for index, header in enumerate(headers):
        table.add_column(header, justify="right" if index else "left", no_wrap=True)
    return table


def print_summary(console: Console, record: RunRecord) -> None:
    """Prints rows in and quarantined, the evaluation, and whether the model was blessed and pushed."""
    if record.reused_everything:
        console.print("Nothing has changed since an earlier run: every step was reused.", style="bold")
    table = _table("month", "rows in", "examples", "quarantined", "duplicates", title="Data")
    for drop in record.drops:
        counts = (drop.rows_in, drop.rows_examples, drop.rows_quarantined, drop.rows_duplicate)
        table.add_row(drop.name, *(f"{count:,}" for count in counts))
    console.print(table)
    for month in record.window:
        if month.left_out is not None:
            _print(
                console,
                f"[yellow]{month.name} is left out[/yellow]: {month.left_out}. Deliver it again, or let the schema or "
                "the config's limits accept it.",
            )
    if record.missing_months:
        _print(console, f"[yellow]Not delivered[/yellow]: {', '.join(record.missing_months)}.")
    for line in record.drift:
        _print(console, f"[yellow]Drift[/yellow] {line}")
    for drop in record.drops:
        if drop.rows_quarantined:
            _print(
                console, f"{drop.name} quarantined: {_counts(drop.quarantined_by_reason)}; see {drop.quarantine_uri}"
            )
        if drop.creatives_by_status:
            _print(console, f"{drop.name} creatives: {_counts(drop.creatives_by_status)}")
    if record.evaluation:
        console.print()
        console.print(_evaluation_table(record))
    if record.baseline is None:
        _print(console, "There was no blessed model to compare with: this is the first.")
    else:
        _print(console, f"Compared with the last blessed model, {record.baseline}")
    if record.state == "pushed":
        _print(
            console,
            "[bold green]Blessed[/bold green]: every threshold is met, and served probabilities equal the evaluated "
            f"ones. Pushed as version [bold]{record.pushed_version}[/bold].",
        )


def _print(console: Console, text: str) -> None:
    console.print(text, highlight=False, soft_wrap=True)


def _evaluation_table(record: RunRecord) -> Table:
    several = any(found.model == "baseline" for found in record.evaluation)
    has_intervals = any(metric.lower is not None for found in record.evaluation for metric in found.metrics.values())
    table = _table(
        "slice",
        *(["model"] if several else []),
        "rows",
        "click rate",
        *_COLUMNS.values(),
        title="Evaluation on the newest month's held-out impressions"
        + (", with 95 % confidence intervals" if has_intervals else ""),
    )
    for found in record.evaluation:
        cells = [found.slice, *([found.model] if several else [])]
        is_change = found.model == "change"
        cells.append("" if is_change else _formatted(found.metrics.get("example_count"), ",.0f"))
        cells.append("" if is_change else _formatted(found.metrics.get("click_rate"), ".2%"))
        cells += [_metric(found.metrics.get(name), "+.4f" if is_change else ".4f") for name in _COLUMNS]
        table.add_row(*cells, style="bold" if found.slice == "overall" else None)
    return table


def _formatted(metric: MetricRecord | None, form: str) -> str:
    return "-" if metric is None or metric.value is None else format(metric.value, form)


def _metric(metric: MetricRecord | None, form: str) -> str:
    if metric is None or metric.value is None:
        return "-"
    text = format(metric.value, form)
    if metric.lower is not None and metric.upper is not None:
        text += f" ±{(metric.upper - metric.lower) / 2:.3f}"
    return text


def print_comparison(console: Console, comparison: Comparison) -> None:
    """Prints the model beside what it should beat and, for sample data, the known best."""
    against = "the true click probability" if comparison.against_truth else "the clicks"
    table = _table(
        "",
        "AUC",
        "log loss",
        "norm. entropy",
        "calibration",
        "new ads: AUC",
        "log loss",
        title=f"{comparison.rows:,} held-out impressions, {comparison.new_rows:,} of new ads, scored against {against}",
    )
    for line in comparison.lines:
        cells = (*_scores(line.overall), *(_scores(line.new)[:2] if line.new else ("-", "-")))
        table.add_row(line.name, *cells, style="bold" if line.is_served else None)
    console.print(table)


def _scores(metrics: SoftMetrics) -> tuple[str, str, str, str]:
    return (
        f"{metrics.auc:.4f}",
        f"{metrics.log_loss:.5f}",
        f"{metrics.normalised_entropy:.4f}",
        f"{metrics.calibration_ratio:.3f}",
    )
