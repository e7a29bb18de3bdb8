"""The record of a run that trains a recogniser, beside the records of the click model's runs, which nobody mixes up."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from adclick.models.recognition.judging import Candidate
from adclick.pipeline.runs.record_store import Record, RecordStore

RECOGNITION_RECORD_FILE = "recognition_run.json"


class RecognitionRecord(Record):
    """One run.

    Attributes:
        months: The months whose images it read.
        undecided: Limits that the captures were too few to decide about.
        creatives: How many creatives it learned from, was judged by, and what was left out.
        form: The form that was chosen of `forms`; None if the run did not come so far.
        forms: What was measured of each form of the recogniser.
        version: The version that holds it; of an unchanged input, the one that an earlier run pushed.
        pushed_to: Where that version is.
    """

    state: Literal["running", "pushed", "data_refused", "model_refused", "failed", "killed"] = "running"
    code_version: str = ""
    started: datetime
    finished: datetime | None = None
    months: list[str] = []
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


_STORE = RecordStore(RECOGNITION_RECORD_FILE, RecognitionRecord)

write_recognition_record = _STORE.write
recognition_run_ids = _STORE.run_ids
read_recognition_record = _STORE.read
