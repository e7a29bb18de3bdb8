"""Verdicts: what clicks were found to be, later."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from schema.errors import DataRefused
from stream.history.event_files import csv_records, form_of, open_events


@dataclass
class Verdicts:
    """The verdicts on clicks.

    Attributes:
        labels: The label's text by the click's id.
        number: Verdicts read.
        changed: How many overrule an earlier one on the same click.
    """

    labels: dict[str, str] = field(default_factory=dict)
    number: int = 0
    changed: int = 0

    def add(self, click: str, label: str) -> None:
        """Takes a verdict in; the last on a click holds."""
        self.number += 1
        if self.labels.get(click, label) != label:
            self.changed += 1
        self.labels[click] = label


def read_verdicts(files: list[Path], click_column: str, label_column: str) -> Verdicts:
    """Reads files of verdicts, JSON lines or CSV, gzipped or not.

    Raises:
        DataRefused: A row names no click or has no label; names file and line.
    """
    import orjson

    verdicts = Verdicts()

    def take(record: Any, path: Path, line: int) -> None:
        values = []
        for column in (click_column, label_column):
            value = record.get(column) if isinstance(record, dict) else None
            if value is None or value == "":
                raise DataRefused(f"{path}: line {line}: {column}: is missing", "A verdict has a click and a label.")
            values.append(("true" if value else "false") if isinstance(value, bool) else str(value))
        verdicts.add(*values)

    for path in files:
        with open_events(path) as stream:
            if form_of(path) == ".csv":
                for line, record, _ in csv_records(stream, path):
                    take(record, path, line)
                continue
            for line, payload in enumerate(stream, 1):
                if payload.isspace():
                    continue
                try:
                    record = orjson.loads(payload)
                except orjson.JSONDecodeError as error:
                    raise DataRefused(f"{path}: line {line}: not JSON: {error}", "Correct the line.") from None
                take(record, path, line)
    return verdicts
