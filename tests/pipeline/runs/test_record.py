"""What the record of a run says of one that ended without a word."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from adclick.pipeline.runs.record import RunRecord, read_record, read_records, write_record
from adclick.storage.folder_lock import FolderLock


def test_a_run_that_nobody_is_at_work_on_was_killed(tmp_path: Path) -> None:
    record = RunRecord(run_id="20261101T000000Z", input_key="key", config={}, baseline=None, started=datetime.now(UTC))
    with FolderLock(tmp_path, command="run") as lock:
        lock.name_run(record.run_id)
        write_record(str(tmp_path), record)
        assert read_record(str(tmp_path), record.run_id).state == "running"
        lock.name_run("20261101T000001Z")
        assert read_record(str(tmp_path), record.run_id).state == "killed"
    (killed,) = read_records(str(tmp_path))
    assert killed.state == "killed" and "without a word" in killed.reasons[0]
    write_record(str(tmp_path), record.model_copy(update={"state": "failed"}))
    assert read_record(str(tmp_path), record.run_id).state == "failed"
