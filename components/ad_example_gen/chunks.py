"""The files of a drop and the chunks they are read in."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, BinaryIO, Protocol

import numpy as np
import pyarrow as pa

from components import filesystem
from components.ad_example_gen import reasons
from components.ad_example_gen.columns import required_columns, typed_column
from components.ad_example_gen.csv_records import (
    Block,
    Dialect,
    FieldError,
    Ints,
    parse_columns,
    read_blocks,
    split_fields,
)
from components.ad_example_gen.settings import CsvSettings
from schema.errors import DataRefused
from schema.feature_table import FeatureTable

_BOM = b"\xef\xbb\xbf"
_OTHER_UNICODE = (b"\xff\xfe", b"\xfe\xff")
#: A first line is looked for in so much of a file.
_HEADER_BYTES = 1 << 20


@dataclass(frozen=True)
class DropFile:
    """A CSV file whose header has been read.

    Attributes:
        path: Its address.
        index: Its place among the files of the drop.
        fields: The names of its columns, in order.
        data_offset: Position of the first row, after decompression.
        first_line: Physical line of the first row.
    """

    path: str
    index: int
    fields: tuple[str, ...]
    data_offset: int
    first_line: int

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]

    @property
    def compressed(self) -> bool:
        return self.path.lower().endswith(".gz")


@dataclass(frozen=True)
class Chunk:
    """A stretch of whole rows of a file; for a compressed file, all of it.

    Attributes:
        file: The file.
        part: Its place among the chunks of the file.
        start: Position of its first byte.
        length: Its length in bytes.
        first_line: Physical line of its first byte.
        overlong: Whether it is one line, longer than any good row can be.
    """

    file: DropFile
    part: int
    start: int
    length: int
    first_line: int
    overlong: bool = False


class _Stream(Protocol):
    @property
    def damage(self) -> str: ...

    def read(self, size: int) -> bytes: ...


class _PlainStream:
    damage = ""

    def __init__(self, path: str, stream: BinaryIO) -> None:
        self._path = path
        self._stream = stream

    def read(self, size: int) -> bytes:
        try:
            return self._stream.read(size)
        except OSError as error:
            raise _unreadable(self._path, error) from None


class _GzipStream:
    """Decompresses; where the file is damaged it ends, with all that could be read before."""

    def __init__(self, path: str, stream: BinaryIO) -> None:
        self._path = path
        self._stream = gzip.GzipFile(fileobj=stream)
        self.damage = ""

    def read(self, size: int) -> bytes:
        parts = io.BytesIO()
        while not self.damage and parts.tell() < size:
            try:
                part = self._stream.read1(min(size - parts.tell(), 1 << 16))
            except (EOFError, zlib.error, gzip.BadGzipFile) as error:
                self.damage = str(error)
                break
            except OSError as error:
                raise _unreadable(self._path, error) from None
            if not part:
                break
            parts.write(part)
        return parts.getvalue()


def _open(path: str) -> tuple[BinaryIO, _Stream]:
    try:
        raw = filesystem.open_read(path)
    except OSError as error:
        raise _unreadable(path, error) from None
    return raw, _GzipStream(path, raw) if path.lower().endswith(".gz") else _PlainStream(path, raw)


def _unreadable(path: str, error: OSError) -> DataRefused:
    if isinstance(error, FileNotFoundError):
        return DataRefused(f"{path}: has vanished or was replaced while it was read", "Run again on the whole drop.")
    return DataRefused(f"{path}: cannot be read: {error}", "Make the file readable, or take it out.")


def open_drop_file(
    path: str, index: int, csv: CsvSettings, features: FeatureTable, *, labelled: bool = True
) -> DropFile | None:
    """Reads and checks the first line of a file.

    Args:
        path: The file.
        index: Its place among the files of the drop.
        csv: The dialect.
        features: The feature table; every column that it reads must be there once.
        labelled: Whether the label must be there, too. A file without a header then has it unless its first row is one
            field short.

    Returns:
        The file, or None if it is empty.

    Raises:
        DataRefused: The file cannot be read, is not UTF-8 text, or lacks a column.
    """
    raw, stream = _open(path)
    with raw:
        beginning = stream.read(_HEADER_BYTES)
    if stream.damage and b"\n" not in beginning:
        raise DataRefused(
            f"{path}: cannot be decompressed: {stream.damage}",
            "Deliver the file again; if it is not compressed, its name must not end in .gz.",
        )
    if beginning.startswith(_OTHER_UNICODE):
        raise DataRefused(f"{path}: is UTF-16, not UTF-8", "Save the file as UTF-8.")
    offset = len(_BOM) if beginning.startswith(_BOM) else 0
    if not beginning[offset:].strip(b"\r\n"):
        return None
    if not csv.header:
        names = csv.columns
        if not labelled and _count_fields(beginning[offset:], csv) == len(names) - 1:
            names = tuple(name for name in names if name != features.source_of(features.label_name))
        return DropFile(path, index, names, offset, 1)
    line = 1
    while True:
        end = beginning.find(b"\n", offset)
        first = beginning[offset : end if end >= 0 else len(beginning)].removesuffix(b"\r")
        offset = end + 1 if end >= 0 else len(beginning)
        line += 1
        if first:
            break
    names = _header_names(path, first, csv, features, labelled)
    return DropFile(path, index, names, offset, line)


def _count_fields(text: bytes, csv: CsvSettings) -> int:
    """The number of fields of the first line; 0 where it cannot be taken apart."""
    try:
        return len(split_fields(text.lstrip(b"\r\n").partition(b"\n")[0].removesuffix(b"\r"), csv.delimiter))
    except FieldError:
        return 0


def _header_names(path: str, first: bytes, csv: CsvSettings, features: FeatureTable, labelled: bool) -> tuple[str, ...]:
    shown = first[:200].decode("utf-8", "backslashreplace")
    if b"\r" in first:
        raise DataRefused(
            f"{path}: its lines end in a carriage return alone", "Save the file with line ends LF or CR LF."
        )
    try:
        names = tuple(name.strip() for name in first.decode().split(csv.delimiter))
        if '"' in shown:
            names = tuple(field.decode().strip() for field in split_fields(first, csv.delimiter))
    except (UnicodeDecodeError, FieldError):
        raise DataRefused(f"{path}: the first line is no header: {shown}", "Save the file as UTF-8 CSV.") from None
    wanted = [features.source_of(name) for name in features.used]
    optional = () if labelled else (features.source_of(features.label_name),)
    missing = [source for source in wanted if source not in names and source not in optional]
    if missing:
        raise DataRefused(
            f"{path}: the header has no column {', '.join(missing)}; the first line is: {shown}",
            "If the file has no header, set csv.header to false and csv.columns to the names of its columns; "
            "if a column has another name, set its `source` in the config; "
            f"if fields are not separated by {csv.delimiter!r}, set csv.delimiter.",
        )
    repeated = sorted({source for source in wanted if names.count(source) > 1})
    if repeated:
        raise DataRefused(
            f"{path}: the header names {', '.join(repeated)} twice", "Rename or remove one of the columns."
        )
    return names


def _dialect(file: DropFile, csv: CsvSettings, max_field_bytes: int) -> Dialect:
    return Dialect(csv.delimiter, len(file.fields), max_field_bytes)


def plan_chunks(file: DropFile, csv: CsvSettings, max_field_bytes: int, chunk_bytes: int) -> Iterator[Chunk]:
    """Cuts a file into chunks that workers can read on their own; reads it once."""
    if file.compressed:
        yield Chunk(file, 0, file.data_offset, 0, file.first_line)
        return
    raw, stream = _open(file.path)
    with raw:
        raw.seek(file.data_offset)
        dialect = _dialect(file, csv, max_field_bytes)
        blocks = read_blocks(stream.read, chunk_bytes, dialect, offset=file.data_offset, first_line=file.first_line)
        for part, block in enumerate(blocks):
            yield Chunk(file, part, block.offset, block.length, block.first_line, block.overlong)


@dataclass(frozen=True)
class QuarantinedRow:
    """A row that cannot be used.

    Attributes:
        file: The file's name.
        line: Its physical line, from 1.
        reason: One of `reasons`.
        field: The column that is bad, where it is one.
        value: What offends.
        text: The row as it stands, bytes that are not UTF-8 as backslash escapes.
    """

    file: str
    line: int
    reason: str
    field: str
    value: str
    text: str


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
    """

    file_index: int
    part: int
    rows_in: int
    batch: Any
    lines: Ints
    quarantined: list[QuarantinedRow]


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
    """Reads a chunk; a compressed file comes in several parts of about `chunk_bytes`."""
    raw, stream = _open(chunk.file.path)
    with raw:
        if not chunk.file.compressed:
            raw.seek(chunk.start)
            data = stream.read(chunk.length if not chunk.overlong else min(chunk.length, 1_024))
            block = Block(data, chunk.start, chunk.length, chunk.first_line, chunk.overlong)
            yield _typed(block, chunk.part, chunk.file, options)
            return
        stream.read(chunk.start)
        dialect = _dialect(chunk.file, options.csv, options.max_field_bytes)
        part, tail, line = 0, b"", chunk.first_line
        for block in read_blocks(stream.read, chunk_bytes, dialect, first_line=chunk.first_line):
            if stream.damage and not block.overlong:
                # What follows the last line end is the row in which the damage lies.
                end = block.data.rfind(b"\n") + 1
                tail, block = block.data[end:], replace(block, data=block.data[:end])
            line = block.first_line + (1 if block.overlong else block.data.count(b"\n"))
            yield _typed(block, part, chunk.file, options)
            part += 1
        if stream.damage:
            text = tail.decode("utf-8", "backslashreplace")
            row = QuarantinedRow(chunk.file.name, line, reasons.TRUNCATED_FILE, "", stream.damage, text)
            nothing = _typed(Block(b"", 0, 0, line), part, chunk.file, options)
            yield replace(nothing, rows_in=1, quarantined=[row])


def _typed(block: Block, part: int, file: DropFile, options: ReadOptions) -> TypedChunk:
    features = options.features
    names = list(features.used)
    if not options.labelled and features.source_of(features.label_name) not in file.fields:
        names.remove(features.label_name)
    required = required_columns(features, split_by_time=options.split_by_time, labelled=options.labelled)
    dialect = _dialect(file, options.csv, options.max_field_bytes)
    data = b"" if block.overlong else block.data
    text = parse_columns(data, dialect, [file.fields.index(features.source_of(name)) for name in names])
    bounds = text.bounds

    def row(record: int, reason: str, field: str, value: str) -> QuarantinedRow:
        raw = data[bounds.starts[record] : bounds.ends[record]].decode("utf-8", "backslashreplace")
        line = block.first_line + int(bounds.lines[record])
        return QuarantinedRow(file.name, line, reason, field, value, raw)

    rejected = [(item.record, row(item.record, item.reason, "", item.value)) for item in text.rejected]
    good = np.ones(len(text.records), np.bool_)
    columns: dict[str, Any] = {}
    for name, cells in zip(names, text.columns, strict=True):
        declared = features.root[name]
        typed = typed_column(
            declared, cells, options.csv.missing_values, options.max_field_bytes, required=name in required
        )
        columns[name] = typed.values
        for bad in typed.bad:
            for position in np.flatnonzero(bad.rows & good).tolist():
                record = int(text.records[position])
                value = cells[position].as_py()[: options.max_field_bytes].decode("utf-8", "backslashreplace")
                rejected.append((record, row(record, bad.reason, name, value)))
            good &= ~bad.rows
    batch = pa.RecordBatch.from_arrays(list(columns.values()), list(columns))
    if not good.all():
        batch = pa.RecordBatch.from_arrays([column.filter(pa.array(good)) for column in batch.columns], list(columns))
    lines = block.first_line + bounds.lines[text.records[good]]
    quarantined = [found for _, found in sorted(rejected, key=lambda item: item[0])]
    rows_in = len(bounds.starts)
    if block.overlong:
        kept = block.data.decode("utf-8", "backslashreplace")
        quarantined = [QuarantinedRow(file.name, block.first_line, reasons.FIELD_TOO_LONG, "", "", kept)]
        rows_in = 1
    return TypedChunk(file.index, part, rows_in, batch, lines, quarantined)
