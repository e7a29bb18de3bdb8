"""Where runs keep their files, and how their records are written and read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict

from adclick.storage import filesystem
from adclick.storage.folder_lock import holder_of

#: How a run is named after the time at which it began.
RUN_ID = "%Y%m%dT%H%M%SZ"


def runs_folder(output: str) -> str:
    return filesystem.join(output, "runs")


def record_folder(output: str, run_id: str) -> Path:
    """The folder of a local run."""
    return Path(runs_folder(output)) / run_id


def run_file(output: str, run_id: str, name: str) -> str:
    """The address of a run's file."""
    return filesystem.join(runs_folder(output), run_id, name)


def new_run_id(output: str) -> str:
    """A run id that sorts by time and is not taken."""
    base = datetime.now(UTC).strftime(RUN_ID)
    candidates = [base, *(f"{base}-{number}" for number in range(2, 100))]
    return next(run_id for run_id in candidates if not filesystem.exists(filesystem.join(runs_folder(output), run_id)))


class Record(BaseModel):
    """What every kind of record says of its run.

    Attributes:
        run_id: The run's name, and that of its folder.
        state: `running` until the run ends; whoever reads the record of one that ended without a word finds `killed`.
        reasons: Why there is no new version; empty if there is one.
    """

    model_config = ConfigDict(extra="forbid", protected_namespaces=())

    run_id: str
    state: Any
    reasons: list[str] = []


_Kind = TypeVar("_Kind", bound=Record)


@dataclass(frozen=True)
class RecordStore(Generic[_Kind]):
    """The records of one kind of run, each a file in its run's folder.

    Attributes:
        file_name: The file's name, by which the kind is told.
        kind: The type of the records.
        is_elsewhere: Whether another machine works on a run: that nobody does so here says nothing then.
    """

    file_name: str
    kind: type[_Kind]
    is_elsewhere: Callable[[_Kind], bool] = lambda _: False

    def write(self, output: str, record: _Kind) -> None:
        """Writes a record whole or not at all."""
        filesystem.make_folder(filesystem.join(runs_folder(output), record.run_id))
        with filesystem.open_write_atomic(run_file(output, record.run_id, self.file_name)) as stream:
            stream.write(record.model_dump_json(indent=1).encode())

    def has(self, output: str, run_id: str) -> bool:
        """Whether a run has such a record."""
        return filesystem.isfile(run_file(output, run_id, self.file_name))

    def run_ids(self, output: str) -> list[str]:
        """The runs that have such a record, the oldest first."""
        folder = runs_folder(output)
        if not filesystem.isdir(folder):
            return []
        return sorted(name for name in filesystem.list_folders(folder) if self.has(output, name))

    def read(self, output: str, run_id: str) -> _Kind:
        """The record of a run; one on this output that nobody is at work on any more was killed."""
        record = self._stored(output, run_id)
        if record.state != "running" or self.is_elsewhere(record):
            return record
        holder = holder_of(output)
        if holder is not None and holder.run_id == run_id:
            return record
        # It may have ended between the two looks.
        record = self._stored(output, run_id)
        if record.state != "running":
            return record
        reasons = ["it ended without a word: killed, for lack of memory perhaps, or its machine went"]
        return record.model_copy(update={"state": "killed", "reasons": reasons})

    def _stored(self, output: str, run_id: str) -> _Kind:
        with filesystem.open_read(run_file(output, run_id, self.file_name)) as stream:
            return self.kind.model_validate_json(stream.read())
