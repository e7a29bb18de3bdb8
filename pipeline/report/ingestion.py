"""What came in: examples of quarantined rows and broken images, and each month's anomalies."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Iterator, Sequence

from tensorflow_metadata.proto.v0 import anomalies_pb2

from adclick.components.data_gate.component import ANOMALIES_FILE, describe_anomalies
from adclick.components.splits import SPLITS
from adclick.models.creatives import OK, read_creatives
from adclick.pipeline.report.facts import Anomaly, BrokenImage, Month, QuarantineExample
from adclick.pipeline.runs.record import DropRecord, RunRecord
from adclick.storage import filesystem
from adclick.storage.local_copy import local_copy

_ROWS_PER_REASON = 2
_ROWS_TO_READ = 20_000
_IMAGES_PER_STATUS = 3
_CREATIVES_TO_READ = 20_000
_VALUE_LENGTH = 48
_TEXT_LENGTH = 240


def read_month(record: RunRecord, drop: DropRecord) -> Month:
    """Reads what a month's ingestion and validation left; bounded whatever the size of the drop."""
    return Month(
        drop=drop,
        quarantined=tuple(_some_quarantined(drop.quarantine_uri)) if drop.rows_quarantined else (),
        broken_images=tuple(_some_broken_images(record, drop)),
        anomalies=_anomalies(record.artifacts.get(f"ExampleValidator-{drop.name}.anomalies", [])),
    )


def _some_quarantined(folder: str) -> list[QuarantineExample]:
    taken: Counter[str] = Counter()
    found = []
    for line in itertools.islice(_lines(folder), _ROWS_TO_READ):
        row = json.loads(line)
        if taken[row["reason"]] < _ROWS_PER_REASON:
            taken[row["reason"]] += 1
            found.append(
                QuarantineExample(
                    file=row["file"],
                    line=row["line"],
                    reason=row["reason"],
                    field=row["field"],
                    value=shortened(row["value"], _VALUE_LENGTH),
                    text=shortened(row["text"], _TEXT_LENGTH),
                )
            )
    return sorted(found, key=lambda row: (row.reason, row.file, row.line))


def _lines(folder: str) -> Iterator[bytes]:
    for path in filesystem.list_files(folder, ["quarantine-*.jsonl"]):
        with filesystem.open_read(path) as stream:
            yield from stream


def shortened(text: str, length: int) -> str:
    """The text, its middle left out where it is longer than `length`."""
    if len(text) <= length:
        return text
    end = length // 4
    return f"{text[: length - end - 3]} … {text[-end:]}"


def _some_broken_images(record: RunRecord, drop: DropRecord) -> list[BrokenImage]:
    if set(drop.creatives_by_status) <= {OK}:
        return []
    taken: Counter[str] = Counter()
    found = []
    files = [
        file
        for uri in record.artifacts.get(f"AdExampleGen-{drop.name}.creatives", [])
        for file in filesystem.list_files(local_copy(uri), ["creatives-*"])
    ]
    for creative in itertools.islice(read_creatives(files), _CREATIVES_TO_READ):
        if creative.status != OK and taken[creative.status] < _IMAGES_PER_STATUS:
            taken[creative.status] += 1
            found.append(BrokenImage(creative.source, creative.status, creative.error))
    return sorted(found, key=lambda image: (image.status, image.source))


def _anomalies(uris: Sequence[str]) -> tuple[Anomaly, ...] | None:
    if not uris:
        return None
    found = []
    for uri in uris:
        for split in SPLITS:
            path = filesystem.join(uri, f"Split-{split}", ANOMALIES_FILE)
            if filesystem.exists(path):
                with filesystem.open_read(path) as stream:
                    anomalies = anomalies_pb2.Anomalies.FromString(stream.read())
                for line in describe_anomalies(anomalies):
                    feature, _, description = line.partition(": ")
                    found.append(Anomaly(split, feature, description))
    return tuple(found)
