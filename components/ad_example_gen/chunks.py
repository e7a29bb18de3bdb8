"""The rows of a drop, typed and checked, a chunk at a time, whatever form of files they come from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from adclick.components.ad_example_gen import reasons
from adclick.components.ad_example_gen.columns import required_columns, typed_column
from adclick.components.ad_example_gen.settings import CsvSettings
from adclick.components.ad_example_gen.sources import source_of
from adclick.components.ad_example_gen.sources.source import (
    Bools,
    Chunk,
    DataFile,
    DropFile,
    Ints,
    QuarantinedRow,
    TextRows,
)
from adclick.components.ad_example_gen.sources.text_encoding import UTF_8
from adclick.schema.feature_table import FeatureTable, Image

__all__ = ["Chunk", "DropFile", "QuarantinedRow", "ReadOptions", "TypedChunk"]

#: Of columns that nobody declared so much is shown.
_FIRST_BYTES = 1 << 16
_FIRST_VALUES = 3
_SHOWN_VALUE_BYTES = 60


def open_drop_file(
    file: DataFile, index: int, csv: CsvSettings, features: FeatureTable, *, labelled: bool = True
) -> DropFile | None:
    """Finds and checks a file's columns; None if it is empty. See `Source.open`."""
    return source_of(file.path).open(file, index, csv, features, labelled=labelled)


def plan_chunks(file: DropFile, csv: CsvSettings, max_field_bytes: int, chunk_bytes: int) -> Iterator[Chunk]:
    """Cuts a file into chunks that workers can read on their own."""
    return source_of(file.path).plan(file, csv, max_field_bytes, chunk_bytes)


@dataclass(frozen=True)
class TypedChunk:
    """The rows of a chunk, typed and checked.

    Attributes:
        file_index: The file's place in the drop.
        part: The chunk's place in the file.
        rows_in: Rows read: those of `batch` and the quarantined.
        batch: `pa.RecordBatch` of the good rows, a column for each that the feature table reads: binary, float32,
            int64, or a list of binary; null where a value is missing.
        lines: int64 [good rows], the physical line of each.
        quarantined: The other rows, in order.
        filled: By column that the feature table does not declare, in how many rows it holds a value.
    """

    file_index: int
    part: int
    rows_in: int
    batch: Any
    lines: Ints
    quarantined: list[QuarantinedRow]
    filled: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class ReadOptions:
    """What decides how chunks are read.

    Attributes:
        features: The feature table; its ignored columns are not read.
        csv: The dialect.
        max_field_bytes: A row with a longer field is quarantined.
        split_by_time: Whether a row needs a timestamp.
        labelled: Whether a row needs a label.
    """

    features: FeatureTable
    csv: CsvSettings
    max_field_bytes: int
    split_by_time: bool
    labelled: bool = True


def read_chunk(chunk: Chunk, options: ReadOptions, chunk_bytes: int) -> Iterator[TypedChunk]:
    """Reads a chunk; one of a source that cannot be cut finer comes in several parts of about `chunk_bytes`."""
    file, features = chunk.file, options.features
    names = list(features.used)
    if not options.labelled and features.source_of(features.label_name) not in file.fields:
        names.remove(features.label_name)
    unknown = unknown_columns(file, features)
    wanted = [*(features.source_of(name) for name in names), *unknown]
    for rows in source_of(file.path).read(chunk, wanted, options.csv, options.max_field_bytes, chunk_bytes):
        yield _typed(rows, file, names, unknown, options)


def _within(folder: str, references: Any) -> Any:
    """Image addresses that are relative to a folder within the drop as ones relative to the drop."""
    encoded = references.dictionary_encode()
    distinct = [
        reference
        if not reference or reference.startswith(b"/") or b"://" in reference
        else folder.encode() + b"/" + reference
        for reference in encoded.dictionary.to_pylist()
    ]
    return pa.array(distinct, pa.binary()).take(encoded.indices)


def unknown_columns(file: DropFile, features: FeatureTable) -> list[str]:
    """Columns of a file that the feature table does not declare; one without a name is an export's index."""
    declared = {features.source_of(name) for name in features.root}
    return [source for source in dict.fromkeys(file.fields) if source and source not in declared]


def first_values(file: DropFile, sources: Sequence[str], csv: CsvSettings, max_field_bytes: int) -> list[list[str]]:
    """A few different values of each of these columns, from the beginning of a file."""
    source = source_of(file.path)
    chunk = next(source.plan(file, csv, max_field_bytes, _FIRST_BYTES), None)
    rows = next(source.read(chunk, sources, csv, max_field_bytes, _FIRST_BYTES), None) if chunk is not None else None
    if rows is None:
        return [[] for _ in sources]
    distinct = (cells.filter(pa.array(_are_filled(cells, csv))).unique()[:_FIRST_VALUES] for cells in rows.columns)
    return [
        [value[:_SHOWN_VALUE_BYTES].decode("utf-8", "backslashreplace") for value in values.to_pylist()]
        for values in distinct
    ]


def _are_filled(cells: Any, csv: CsvSettings) -> Bools:
    missing = pa.array([value.encode() for value in csv.missing_values], pa.binary())
    filled: Bools = pc.invert(pc.is_in(cells, value_set=missing)).to_numpy(zero_copy_only=False)
    return filled


def _typed(
    rows: TextRows, file: DropFile, names: Sequence[str], unknown: Sequence[str], options: ReadOptions
) -> TypedChunk:
    features = options.features
    required = required_columns(features, split_by_time=options.split_by_time, labelled=options.labelled)
    filled = {
        source: int(_are_filled(cells, options.csv).sum())
        for source, cells in zip(unknown, rows.columns[len(names) :], strict=True)
    }

    def reason_of(reason: str) -> str:
        return reasons.UNDECODABLE if reason == reasons.INVALID_UTF8 and file.encoding != UTF_8 else reason

    rejected = list(rows.rejected)
    good = np.ones(len(rows.lines), np.bool_)
    columns: dict[str, Any] = {}
    for name, cells in zip(names, rows.columns[: len(names)], strict=True):
        declared = features.root[name]
        if file.folder and isinstance(declared, Image):
            cells = _within(file.folder, cells)
        typed = typed_column(
            declared, cells, options.csv.missing_values, options.max_field_bytes, required=name in required
        )
        columns[name] = typed.values
        for bad in typed.bad:
            for position in np.flatnonzero(bad.rows & good).tolist():
                line = int(rows.lines[position])
                value = cells[position].as_py()[: options.max_field_bytes].decode("utf-8", "backslashreplace")
                text = rows.text_of(position)
                rejected.append(QuarantinedRow(file.name, line, reason_of(bad.reason), name, value, text))
            good &= ~bad.rows
    batch = pa.RecordBatch.from_arrays(list(columns.values()), list(columns))
    if not good.all():
        batch = pa.RecordBatch.from_arrays([column.filter(pa.array(good)) for column in batch.columns], list(columns))
    quarantined = sorted(rejected, key=lambda row: row.line)
    return TypedChunk(file.index, rows.part, rows.rows_in, batch, rows.lines[good], quarantined, filled)
