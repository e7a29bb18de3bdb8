"""A recognition run as one HTML page that loads nothing else."""

from __future__ import annotations

from datetime import UTC, datetime

from adclick.pipeline.report.page import page_environment
from adclick.pipeline.runs.recognition_record import RecognitionRecord
from adclick.pipeline.runs.record import REPORT_FILE
from adclick.pipeline.runs.record_store import run_file
from adclick.storage import filesystem

_VERDICTS = {
    "pushed": "Pushed",
    "model_refused": "Recogniser refused",
    "data_refused": "Data refused",
    "failed": "Failed",
    "killed": "Killed",
    "running": "Unfinished",
}


def write_recognition_report(output: str, record: RecognitionRecord) -> str:
    """Renders and writes a run's report, whole or not at all; gives the HTML file."""
    file = run_file(output, record.run_id, REPORT_FILE)
    with filesystem.open_write_atomic(file) as stream:
        stream.write(render_recognition(record).encode())
    return file


def render_recognition(record: RecognitionRecord) -> str:
    """The page of a run."""
    share = {"share": lambda value: f"{100 * value:.1f}\u00a0%"}
    return (
        page_environment(share)
        .get_template("recognition.html.j2")
        .render(
            record=record,
            chosen=record.chosen,
            verdict=_VERDICTS[record.state],
            sentence=_sentence(record),
            total_seconds=(record.finished - record.started).total_seconds() if record.finished else None,
            written=datetime.now(UTC),
        )
    )


def _sentence(record: RecognitionRecord) -> str:
    chosen = record.chosen
    if record.state == "pushed" and chosen is not None:
        top_1, false_accept = chosen.judgement.top_1.value, chosen.judgement.false_accept.value
        return (
            f"Version {record.version} finds the right creative in {100 * top_1:.1f} % of captures and takes "
            f"{100 * false_accept:.1f} % of foreign ones for a booked creative."
        )
    if record.state == "running":
        return "The run has not ended yet."
    return record.reasons[0] if record.reasons else f"The run ended as {_VERDICTS[record.state].lower()}."
