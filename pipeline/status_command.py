"""`adclick status`: runs, pushed versions and what is served."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.table import Table

from pipeline.config import load_config
from pipeline.console import result_console
from pipeline.run_record import RunRecord, read_records
from schema.errors import ConfigError
from serving.versions import whole_versions


def run_status(config: Path | None, output: Path | None, as_json: bool) -> None:
    """Prints the state of an output folder."""
    if output is not None:
        folder = str(output.resolve())
        served = _served_versions(folder)
    elif config is not None:
        settings = load_config(config)
        folder = settings.output
        served = {settings.serving.model_name: whole_versions(settings.push_base)}
    else:
        raise ConfigError("give --config FILE or --output DIR")
    records = read_records(folder)
    if as_json:
        print(json.dumps(_status(folder, records, served), indent=1))
        return
    console = result_console(sys.stdout)
    if not records:
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
    console.print(table)
    for model, versions in served.items():
        console.print(
            f"{model}: versions {', '.join(map(str, versions)) or 'none'}; the newest is served", highlight=False
        )


def _overall(record: RunRecord, metric: str) -> float | None:
    for found in record.evaluation:
        if found.slice == "overall" and found.model == "candidate" and metric in found.metrics:
            return found.metrics[metric].value
    return None


def _served_versions(output: str) -> dict[str, list[int]]:
    base = Path(output) / "serving_model"
    if not base.is_dir():
        return {}
    return {model.name: whole_versions(str(model)) for model in sorted(base.iterdir())}


def _status(folder: str, records: list[RunRecord], served: dict[str, list[int]]) -> dict[str, object]:
    return {
        "output": folder,
        "runs": [json.loads(record.model_dump_json(exclude={"config"})) for record in records],
        "models": {
            name: {"versions": versions, "served_version": versions[-1] if versions else None}
            for name, versions in served.items()
        },
    }
