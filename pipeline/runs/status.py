"""`adclick status`: runs, pushed versions and what is served."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from adclick.pipeline.config.settings import load_config
from adclick.pipeline.console import noise_to_temporary, result_console
from adclick.pipeline.runs.platform_refusals import with_refusal
from adclick.pipeline.runs.recognition_record import RecognitionRecord, read_recognition_record, recognition_run_ids
from adclick.pipeline.runs.record import RunRecord, read_records
from adclick.schema.errors import ConfigError
from adclick.storage.model_versions import ModelVersions


def run_status(config: Path | None, output: Path | None, version: int | None, as_json: bool) -> None:
    """Prints the state of an output folder, or where one of its versions comes from."""
    if output is not None:
        folder = str(output.resolve())
        models = _models(folder)
    elif config is not None:
        settings = load_config(config)
        folder = settings.output
        models = [ModelVersions(settings.push_base)]
    else:
        raise ConfigError("give --config FILE or --output DIR")
    if version is not None:
        if "://" in folder:
            raise ConfigError(
                f"{folder}: where a version comes from is known to the metadata store of the platform that made it",
                "Its run, with months, metrics and artifacts: `adclick status --json`.",
            )
        _print_lineage(folder, version, as_json)
        return
    records = [with_refusal(record) for record in read_records(folder)]
    recognition = [read_recognition_record(folder, run_id) for run_id in recognition_run_ids(folder)]
    if as_json:
        print(json.dumps(_status(folder, records, recognition, models), indent=1))
        return
    console = result_console(sys.stdout)
    if not records and not recognition:
        console.print(f"{folder}: no run yet", highlight=False)
        return
    table = Table("run", "state", "months", "AUC", "version", "seconds", box=SIMPLE_HEAD, pad_edge=False)
    for record in records:
        auc = _overall(record, "auc")
        seconds = (record.finished - record.started).total_seconds() if record.finished else None
        table.add_row(
            record.run_id,
            f"{record.state} (unchanged)" if record.reused_everything else record.state,
            ", ".join(drop.name for drop in record.drops),
            "-" if auc is None else f"{auc:.4f}",
            "-" if record.pushed_version is None else str(record.pushed_version),
            "-" if seconds is None else f"{seconds:.0f}",
        )
    console.print(folder, highlight=False, soft_wrap=True)
    if records:
        console.print(table)
    for model in models:
        console.print(
            f"{model.model}: versions {_listed(model.served)}; the newest is served", highlight=False, soft_wrap=True
        )
        if model.held:
            console.print(f"  held back: {_listed(model.held)}", highlight=False)
        if model.withdrawn:
            console.print(f"  withdrawn: {_listed(model.withdrawn)}", highlight=False)
        if (hold := model.hold) is not None:
            console.print(
                f"  rolled back to {hold.served} on {hold.time:%Y-%m-%d %H:%M} UTC by {hold.by}: {hold.reason}\n"
                "  Later models are held back until `adclick rollback --release`.",
                highlight=False,
                soft_wrap=True,
            )

    if recognition:
        _print_recognition(console, recognition)


def _print_recognition(console: Console, records: list[RecognitionRecord]) -> None:
    columns = ("recognition run", "state", "months", "form", "top-1", "false accept", "version", "seconds")
    table = Table(*columns, box=SIMPLE_HEAD, pad_edge=False)
    for record in records:
        chosen = record.chosen
        judgement = chosen.judgement if chosen is not None else None
        table.add_row(
            record.run_id,
            record.state,
            ", ".join(record.months),
            record.form or "-",
            "-" if judgement is None else f"{100 * judgement.top_1.value:.1f} %",
            "-" if judgement is None else f"{100 * judgement.false_accept.value:.1f} %",
            "-" if record.version is None else str(record.version),
            "-" if record.finished is None else f"{(record.finished - record.started).total_seconds():.0f}",
        )
    console.print(table)
    for reason in records[-1].reasons:
        console.print(f"{records[-1].run_id}: {reason}", style="yellow", markup=False, highlight=False, soft_wrap=True)


def _print_lineage(folder: str, version: int, as_json: bool) -> None:
    with noise_to_temporary("status") as real:
        from adclick.pipeline.runs.lineage import lineage_of
        from adclick.pipeline.runs.local import metadata_config

        lineage = lineage_of(metadata_config(folder), version)
        if as_json:
            real.write(lineage.model_dump_json(indent=1) + "\n")
            return
        console = result_console(real)

        def say(text: str = "") -> None:
            console.print(text, highlight=False, soft_wrap=True, markup=False)

        say(f"Version {lineage.version}, pushed to {lineage.pushed_to}")
        say(f"Model {lineage.model}, trained by code {lineage.code_version}")
        say(f"Compared with {lineage.baseline or 'no earlier version: it was the first'}")
        verdicts = (f"{name} {'blessed' if blessed else 'refused'}" for name, blessed in lineage.blessings.items())
        say(f"Judged: {', '.join(verdicts)}")
        for found in lineage.evaluation:
            if found.slice == "overall":
                metrics = (
                    f"{name} {metric.value:.5g}" for name, metric in found.metrics.items() if metric.value is not None
                )
                say(f"  {found.model}: {', '.join(metrics)}")
        for month in lineage.months:
            say()
            say(f"Month {month.span}, delivery {month.version}, read by code {month.code_version}")
            say(f"  {month.drop} (fingerprint {month.fingerprint})")
            for file in month.files:
                say(f"  {file.sha256}  {file.bytes:>12,}  {file.path}")
            say(f"  images, each by its SHA-256: {month.creatives}")
        say()
        say("Settings, artifacts and slices: --json.")


def _overall(record: RunRecord, metric: str) -> float | None:
    for found in record.evaluation:
        if found.slice == "overall" and found.model == "candidate" and metric in found.metrics:
            return found.metrics[metric].value
    return None


def _models(output: str) -> list[ModelVersions]:
    base = Path(output) / "serving_model"
    return [ModelVersions(str(model)) for model in sorted(base.iterdir())] if base.is_dir() else []


def _listed(versions: list[int]) -> str:
    return ", ".join(map(str, versions)) or "none"


def _status(
    folder: str, records: list[RunRecord], recognition: list[RecognitionRecord], models: list[ModelVersions]
) -> dict[str, object]:
    return {
        "output": folder,
        "runs": [json.loads(record.model_dump_json(exclude={"config"})) for record in records],
        "recognition_runs": [json.loads(record.model_dump_json()) for record in recognition],
        "models": {model.model: _model_status(model) for model in models},
    }


def _model_status(model: ModelVersions) -> dict[str, object]:
    served, hold = model.served, model.hold
    return {
        "versions": served,
        "served_version": served[-1] if served else None,
        "held": model.held,
        "withdrawn": model.withdrawn,
        "hold": json.loads(hold.model_dump_json()) if hold is not None else None,
        "rollbacks": [json.loads(rollback.model_dump_json()) for rollback in model.rollbacks],
    }
