"""Writes a run's report beside its record; what goes wrong with it never touches the run."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console

from adclick.pipeline.runs.record import RECORD_FILE, REPORT_FILE, RunRecord, read_record
from adclick.pipeline.runs.record_store import run_file
from adclick.storage import filesystem


def write_report(output: str, record: RunRecord) -> str:
    """Gathers, renders and writes a run's report, whole or not at all.

    Args:
        output: The output folder.
        record: The run.

    Returns:
        The HTML file.
    """
    from adclick.pipeline.report.gather import gather
    from adclick.pipeline.report.page import render

    page = render(gather(output, record))
    file = run_file(output, record.run_id, REPORT_FILE)
    with filesystem.open_write_atomic(file) as stream:
        stream.write(page.encode())
    return file


@contextmanager
def report_at_end(output: str, run_id: str, console: Console) -> Iterator[None]:
    """Writes the report of the run within, however it ends, and prints its path; a failure to do so is a warning."""
    try:
        yield
    except Exception:
        _write_or_warn(output, run_id, console)
        raise
    _write_or_warn(output, run_id, console)


def _write_or_warn(output: str, run_id: str, console: Console) -> None:
    # A wrong config or input location ends a run before it is one.
    if not filesystem.isfile(run_file(output, run_id, RECORD_FILE)):
        return
    try:
        path = write_report(output, read_record(output, run_id))
    except Exception as error:  # Whatever it is, the run is what it is.
        logging.getLogger("adclick").exception("the report could not be written")
        console.print("warning: the report could not be written:", style="yellow", end=" ")
        console.print(f"{type(error).__name__}: {error}", markup=False, highlight=False, soft_wrap=True)
        return
    console.print(f"Report: {path}", markup=False, highlight=False, soft_wrap=True)
