"""Prints what came of a run."""

from __future__ import annotations

from collections.abc import Mapping

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from adclick.components.ad_example_gen.creative_store import HOW_HAD
from adclick.models.metrics import shown
from adclick.models.soft_metrics import SoftMetrics
from adclick.pipeline.console import name_width, one_line
from adclick.pipeline.runs.comparison import Comparison
from adclick.pipeline.runs.record import MetricRecord, RunRecord


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in sorted(counts.items(), key=lambda item: -item[1])) or "none"


def figures_table(*headers: str, title: str) -> Table:
    """An empty table whose first column is of names, the others of figures."""
    table = Table(title=title, box=SIMPLE_HEAD, title_justify="left", title_style="bold", pad_edge=False)
    for index, header in enumerate(headers):
        table.add_column(header, justify="right" if index else "left", no_wrap=True)
    return table


def print_summary(console: Console, record: RunRecord) -> None:
    """Prints rows in and quarantined, the evaluation, and whether the model was blessed and pushed."""
    if record.reused_everything:
        console.print("Nothing has changed since an earlier run: every step was reused.", style="bold")
    table = figures_table("month", "rows in", "examples", "quarantined", "duplicates", title="Data")
    for drop in record.drops:
        counts = (drop.rows_in, drop.rows_examples, drop.rows_quarantined, drop.rows_duplicate)
        table.add_row(drop.name, *(f"{count:,}" for count in counts))
    console.print(table)
    if record.drops and record.drops[-1].rows_validation:
        newest = record.drops[-1]
        _print(
            console,
            f"Of {newest.name} {newest.rows_train:,} examples are trained on, {newest.rows_validation:,} tell training "
            f"when to stop, and {newest.rows_eval:,} judge the model and do nothing else.",
        )
    for month in record.window:
        if month.left_out is not None:
            _print(
                console,
                Text.assemble(
                    (f"{month.name} is left out", "yellow"),
                    f": {month.left_out}. Deliver it again, or let the schema or the config's limits accept it.",
                ),
            )
    if record.missing_months:
        _print(console, Text.assemble(("Not delivered", "yellow"), f": {', '.join(record.missing_months)}."))
    for note in record.notes:
        _print(console, Text(note, "yellow"))
    if record.copies is not None:
        for line in record.copies.notes:
            _print(console, Text.assemble(("Copies", "yellow"), f" {line}"))
        _print(console, record.copies.describe())
    for line in record.drift:
        _print(console, Text.assemble(("Drift", "yellow"), f" {line}"))
    for drop in record.drops:
        if drop.rows_quarantined:
            _print(
                console, f"{drop.name} quarantined: {_counts(drop.quarantined_by_reason)}; see {drop.quarantine_uri}"
            )
        if drop.creatives_by_status:
            _print(console, f"{drop.name} creatives: {_counts(drop.creatives_by_status)}")
        if drop.images_by_reading:
            words = {HOW_HAD[how]: images for how, images in drop.images_by_reading.items()}
            _print(console, f"{drop.name} images: {_counts(words)}")
        for note in drop.notes:
            _print(console, Text.assemble((drop.name, "yellow"), f" {note}"))
    if record.evaluation:
        console.print()
        console.print(_evaluation_table(record, name_width(console)))
    if record.baseline is None:
        _print(console, "There was no blessed model to compare with: this is the first.")
    else:
        _print(console, f"Compared with the last blessed model, {record.baseline}")
    for line in record.undecided:
        _print(console, Text.assemble(("Undecided", "yellow"), f" {line}"))
    if record.state == "pushed":
        thresholds = "no threshold is missed beyond chance" if record.undecided else "every threshold is met"
        _print(
            console,
            Text.assemble(
                ("Blessed", "bold green"),
                f": {thresholds}, and served probabilities equal the evaluated ones. Pushed as version ",
                (str(record.pushed_version), "bold"),
                ".",
            ),
        )


def _print(console: Console, text: str | Text) -> None:
    console.print(text, highlight=False, soft_wrap=True)


def _evaluation_table(record: RunRecord, width: int) -> Table:
    several = any(found.model == "baseline" for found in record.evaluation)
    metrics = shown(record.gated_metrics)
    has_intervals = any(metric.lower is not None for found in record.evaluation for metric in found.metrics.values())
    table = figures_table(
        "slice",
        *(["model"] if several else []),
        "rows",
        "click rate",
        *(metric.heading for metric in metrics.values()),
        title="Evaluation on the newest month's held-out impressions"
        + (", with 95 % confidence intervals" if has_intervals else ""),
    )
    table.columns[0].max_width = width
    for found in record.evaluation:
        cells = [one_line(found.slice), *([found.model] if several else [])]
        is_change = found.model == "change"
        cells.append("" if is_change else _formatted(found.metrics.get("example_count"), ",.0f"))
        cells.append("" if is_change else _formatted(found.metrics.get("click_rate"), ".2%"))
        cells += [_metric(found.metrics.get(name), "+.4f" if is_change else ".4f") for name in metrics]
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
    table = figures_table(
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
