"""`adclick report`: builds a run's report again from its record, artifacts and the metadata store."""

from __future__ import annotations

from pathlib import Path

from adclick.pipeline.config.settings import load_config
from adclick.pipeline.report.recognition import write_recognition_report
from adclick.pipeline.report.write import write_report
from adclick.pipeline.runs.platform_refusals import with_refusal
from adclick.pipeline.runs.recognition_record import read_recognition_record, recognition_run_ids
from adclick.pipeline.runs.record import read_record, run_ids
from adclick.schema.errors import ConfigError


def run_report(run_id: str | None, config: Path | None, output: Path | None) -> str:
    """Writes the report of a run, the newest if none is named.

    Raises:
        ConfigError: There is no run, or none of that name, or neither a config nor an output folder is given.
    """
    if config is None and output is None:
        raise ConfigError("give --config FILE or --output DIR")
    folder = str(output.resolve()) if output is not None else load_config(config).output  # type: ignore[arg-type]
    recognition = recognition_run_ids(folder)
    known = sorted([*run_ids(folder), *recognition])
    if not known:
        raise ConfigError(f"{folder}: no run yet", "Start one with `adclick run` or `adclick submit` first.")
    if run_id is not None and run_id not in known:
        raise ConfigError(f"{folder}: no run {run_id}", f"There are {', '.join(known[-10:])}.")
    chosen = run_id or known[-1]
    if chosen in recognition:
        return write_recognition_report(folder, read_recognition_record(folder, chosen))
    return write_report(folder, with_refusal(read_record(folder, chosen)))
