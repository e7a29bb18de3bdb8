"""The record of a run that trains a recogniser, beside the records of the click model's runs, which nobody mixes up."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict

from adclick.models.recognition.judging import Candidate
from adclick.pipeline.runs.record import run_file, runs_folder
from adclick.storage import filesystem
from adclick.storage.folder_lock import holder_of

RECOGNITION_RECORD_FILE = "recognition_run.json"


class RecognitionRecord(BaseModel):
    """One run.

    Attributes:
        state: `running` until the run ends; whoever reads the record of one that ended without a word finds `killed`.
        months: The months whose images it read.
        reasons: Why there is no new version; empty if there is one.
        undecided: Limits that the captures were too few to decide about.
        creatives: How many creatives it learned from, was judged by, and what was left out.
        form: The form that was chosen of `forms`; None if the run did not come so far.
        forms: What was measured of each form of the recogniser.
        version: The version that holds it; of an unchanged input, the one that an earlier run pushed.
        pushed_to: Where that version is.
    """

    model_config = ConfigDict(extra="forbid")

    run_id: str
    state: Literal["running", "pushed", "data_refused", "model_refused", "failed", "killed"] = "running"
    code_version: str = ""
    started: datetime
    finished: datetime | None = None
    months: list[str] = []
    reasons: list[str] = []
    undecided: list[str] = []
    creatives: dict[str, int] = {}
    form: str | None = None
    forms: list[Candidate] = []
    version: int | None = None
    pushed_to: str | None = None

    @property
    def chosen(self) -> Candidate | None:
        """What was measured of the form that was chosen."""
        return next((candidate for candidate in self.forms if candidate.form == self.form), None)


def write_recognition_record(output: str, record: RecognitionRecord) -> None:
    """Writes a record whole or not at all."""
    filesystem.make_folder(filesystem.join(runs_folder(output), record.run_id))
    with filesystem.open_write_atomic(run_file(output, record.run_id, RECOGNITION_RECORD_FILE)) as stream:
        stream.write(record.model_dump_json(indent=1).encode())


def recognition_run_ids(output: str) -> list[str]:
    """The runs that have such a record, the oldest first."""
    folder = runs_folder(output)
    if not filesystem.isdir(folder):
        return []
    names = filesystem.list_folders(folder)
    return sorted(name for name in names if filesystem.isfile(run_file(output, name, RECOGNITION_RECORD_FILE)))


def read_recognition_record(output: str, run_id: str) -> RecognitionRecord:
    """The record of a run; one that nobody is at work on any more was killed."""
    record = _stored(output, run_id)
    if record.state != "running":
        return record
    holder = holder_of(output)
    if holder is not None and holder.run_id == run_id:
        return record
    # It may have ended between the two looks.
    record = _stored(output, run_id)
    if record.state != "running":
        return record
    reasons = ["it ended without a word: killed, for lack of memory perhaps, or its machine went"]
    return record.model_copy(update={"state": "killed", "reasons": reasons})


def _stored(output: str, run_id: str) -> RecognitionRecord:
    with filesystem.open_read(run_file(output, run_id, RECOGNITION_RECORD_FILE)) as stream:
        return RecognitionRecord.model_validate_json(stream.read())
