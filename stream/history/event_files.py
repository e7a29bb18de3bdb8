"""Files of events: JSON lines or CSV, gzipped or not, in the order of their names."""

from __future__ import annotations

import csv
import glob
import gzip
import io
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, cast

from adclick.schema.errors import ConfigError, DataRefused
from adclick.stream.events import Event, EventReader, RejectedEvent

_FORMS = (".jsonl", ".ndjson", ".json", ".csv")


def find_event_files(where: str, key: str) -> list[Path]:
    """The files of a pattern, a folder or a name, in the order of their names.

    Args:
        where: The pattern, folder or file.
        key: The config's key that says so, for errors.

    Raises:
        ConfigError: There are none, or one is neither of JSON lines nor CSV.
    """
    place = Path(where)
    if place.is_dir():
        found = [path for path in place.iterdir() if not path.name.startswith((".", "_"))]
    else:
        found = [place] if place.is_file() else [Path(name) for name in glob.glob(where)]
    found = sorted(path for path in found if path.is_file())
    if not found:
        raise ConfigError(f"{key}: {where}: no such file", "Name a file, a folder or a pattern: clicks/*.jsonl.gz.")
    for path in found:
        if form_of(path) not in _FORMS:
            raise ConfigError(
                f"{key}: {path}: is neither .jsonl nor .csv, nor one of these gzipped",
                "Take it out of the folder, or name the files by a pattern.",
            )
    return found


def form_of(path: Path) -> str:
    """The suffix of a file without that of gzip."""
    return Path(path.name.removesuffix(".gz")).suffix.lower()


@dataclass
class EventFiles:
    """The events of one kind, file by file.

    Attributes:
        files: The files.
        file: The one that is being read.
        number: Events read so far, rejected ones included.
        rejected_at: By the number of a rejected event, its file and line.
    """

    reader: EventReader
    files: list[Path]
    file: Path = field(init=False, default=Path())
    number: int = field(init=False, default=0)
    rejected_at: dict[int, tuple[Path, int]] = field(init=False, default_factory=dict)

    def __iter__(self) -> Iterator[Event | RejectedEvent]:
        for path in self.files:
            self.file = path
            read = self._csv if form_of(path) == ".csv" else self._json_lines
            yield from _whole(path, read)

    def _json_lines(self, stream: BinaryIO) -> Iterator[Event | RejectedEvent]:
        read = self.reader.read
        number = self.number
        for line, payload in enumerate(stream, 1):
            if payload.isspace():
                continue
            found = read(payload, 0, number)
            if type(found) is RejectedEvent:
                self.rejected_at[number] = (self.file, line)
            yield found
            number += 1
            self.number = number

    def _csv(self, stream: BinaryIO) -> Iterator[Event | RejectedEvent]:
        for line, record, payload in csv_records(stream, self.file):
            if None in record or None in record.values():
                reason = "fields: has more or fewer than the header"
                found: Event | RejectedEvent = RejectedEvent(self.reader.kind, reason, payload, 0, self.number)
            else:
                found = self.reader.from_record(record, payload, 0, self.number)
            if type(found) is RejectedEvent:
                self.rejected_at[self.number] = (self.file, line)
            self.number += 1
            yield found


def csv_records(stream: BinaryIO, path: Path) -> Iterator[tuple[int, dict[Any, Any], bytes]]:
    """The rows of a CSV file with a header: line, row by column, and the row as text."""
    text = io.TextIOWrapper(stream, encoding="utf-8-sig", newline="")
    rows = csv.DictReader(text, restkey=None, restval=None)
    try:
        if rows.fieldnames is not None and len(set(rows.fieldnames)) < len(rows.fieldnames):
            raise ConfigError(f"{path}: its header names a column twice", "Correct the header.")
        for record in rows:
            values = [",".join(v) if isinstance(v, list) else v or "" for v in record.values()]
            yield rows.line_num, record, ",".join(values).encode()
    except csv.Error as error:
        raise DataRefused(f"{path}: line {rows.line_num}: no CSV: {error}", "Correct the file.") from None


def open_events(path: Path) -> BinaryIO:
    """Opens a file to read its bytes, gzipped or not."""
    return cast(BinaryIO, gzip.open(path, "rb")) if path.name.endswith(".gz") else path.open("rb")


def _whole(path: Path, read: Callable[[BinaryIO], Iterator[Event | RejectedEvent]]) -> Iterator[Event | RejectedEvent]:
    with open_events(path) as stream:
        try:
            yield from read(stream)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise DataRefused(f"{path}: damaged gzip: {error}", "Fetch or write the file again.") from None
        except UnicodeDecodeError as error:
            raise DataRefused(f"{path}: is not UTF-8: {error}", "Write it in UTF-8.") from None
