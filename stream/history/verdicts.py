"""Verdicts: what clicks were found to be, later."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from adclick.schema.errors import DataRefused
from adclick.stream.history.event_files import csv_records, form_of, open_events


@dataclass
class Verdicts:
    """The verdicts on clicks.

    Attributes:
        labels: The label's text by the click's id.
        number: Verdicts read.
        changed: How many overrule an earlier one on the same click.
        rejected: Messages that are no verdicts; a file with such a row is refused.
        first_rejected: Where the first of them is, and what is wrong with it.
    """

    labels: dict[str, str] = field(default_factory=dict)
    number: int = 0
    changed: int = 0
    rejected: int = 0
    first_rejected: str | None = None

    def add(self, click: str, label: str) -> None:
        """Takes a verdict in; the last on a click holds."""
        self.number += 1
        if self.labels.get(click, label) != label:
            self.changed += 1
        self.labels[click] = label

    def reject(self, place: str, fault: str) -> None:
        """Counts a message that is no verdict."""
        self.rejected += 1
        self.first_rejected = self.first_rejected or f"{place}: {fault}"

    @property
    def faults(self) -> list[str]:
        """What a person should know of messages that are no verdicts, in words."""
        if not self.rejected:
            return []
        return [f"{self.rejected:,} messages are no verdicts and were passed over; the first: {self.first_rejected}"]


@dataclass(frozen=True)
class VerdictColumns:
    """The columns of a verdict.

    Attributes:
        click: That which names the click.
        label: That which says what it was found to be.
    """

    click: str
    label: str

    def read(self, record: Any) -> tuple[str, str]:
        """The click and the label's text of a record.

        Raises:
            ValueError: One of them is missing.
        """
        if not isinstance(record, dict):
            raise ValueError("is no JSON object")
        click, label = (self._text(record, column) for column in (self.click, self.label))
        return click, label

    @staticmethod
    def _text(record: dict[str, Any], column: str) -> str:
        value = record.get(column)
        if value is None or value == "":
            raise ValueError(f"{column}: is missing")
        return ("true" if value else "false") if isinstance(value, bool) else str(value)


def read_verdict_files(verdicts: Verdicts, files: Iterable[Path], columns: VerdictColumns) -> None:
    """Adds those of files: JSON lines or CSV, gzipped or not.

    Raises:
        DataRefused: A row names no click or has no label; names file and line.
    """
    for path in files:
        with open_events(path) as stream:
            records: Iterable[tuple[int, Any]]
            if form_of(path) == ".csv":
                records = ((line, record) for line, record, _ in csv_records(stream, path))
            else:
                records = ((line, payload) for line, payload in enumerate(stream, 1) if not payload.isspace())
            for line, record in records:
                try:
                    verdicts.add(*columns.read(orjson.loads(record) if isinstance(record, bytes) else record))
                except orjson.JSONDecodeError as error:
                    raise DataRefused(f"{path}: line {line}: not JSON: {error}", "Correct the line.") from None
                except ValueError as error:
                    raise DataRefused(f"{path}: line {line}: {error}", "A verdict has a click and a label.") from None


def read_verdict_messages(verdicts: Verdicts, messages: Iterable[Any], columns: VerdictColumns) -> None:
    """Adds those of a topic's messages, in the order of their times; those that are none are counted."""

    def order(message: Any) -> tuple[int, int, int]:
        return message.timestamp()[1], message.partition(), message.offset()

    for message in sorted(messages, key=order):
        try:
            verdicts.add(*columns.read(orjson.loads(message.value() or b"")))
        except ValueError as error:
            place = f"topic {message.topic()}, partition {message.partition()}, offset {message.offset()}"
            fault = f"not JSON: {error}" if isinstance(error, orjson.JSONDecodeError) else str(error)
            verdicts.reject(place, fault)
