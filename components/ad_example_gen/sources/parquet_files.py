"""Apache Parquet. Its types become the texts that a CSV export would hold, so that one config reads both.

A null is an empty text; whole numbers have no fraction, even where a column of floating-point numbers holds them (a
data frame makes an id with gaps one); truth values are `true` and `false`; times are ISO 8601 and read as their zone's
clock does; text and bytes stay as they are.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from adclick.components.ad_example_gen.settings import CsvSettings
from adclick.components.ad_example_gen.sources.source import (
    Bools,
    Chunk,
    DataFile,
    DropFile,
    SampledRows,
    Source,
    TextRows,
    as_declared,
    check_columns,
)
from adclick.schema.errors import ConfigError, DataRefused
from adclick.schema.feature_table import FeatureTable
from adclick.storage import filesystem

#: Rows are decoded so many at a time; a chunk numbers its parts by them.
_BATCH_ROWS = 4_096
#: So much of a column is read at a time, whatever the size of a row group.
_BUFFER_BYTES = 1 << 20
_SAMPLED_GROUPS = 16
_SHOWN_COLUMNS = 30
_UNIVERSAL = ("UTC", "+00:00", "Z", "GMT", "ETC/UTC")
_TICKS_PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
#: In the year 2262, one before the last that a data frame's times reach.
_LAST_KNOWN_SECOND = 9_214_646_400
_INDEX = re.compile(r"__index_level_\d+__")
#: Beyond these a float64 no longer holds every whole number.
_EXACT = float(2**53)


class ParquetFiles(Source):
    """Columns of declared types, in row groups."""

    name = "Parquet"
    suffixes = (".parquet",)
    endings = ".parquet"

    def open(
        self, file: DataFile, index: int, csv: CsvSettings, features: FeatureTable, *, labelled: bool
    ) -> DropFile | None:
        """As `Source.open`; a column that the table reads must not be nested."""
        path = file.path
        if not filesystem.size(path):
            return None
        with _opened(path) as parquet:
            schema = parquet.schema_arrow
        names = as_declared(_names(schema), features)
        check_columns(
            path,
            names,
            features,
            labelled=labelled,
            shown=f"it has {', '.join(names[:_SHOWN_COLUMNS])}",
            remedy="If a column has another name, set its `source` in the config.",
        )
        used = {features.source_of(name) for name in features.used}
        for name, kind in zip(names, schema.types, strict=True):
            if name in used and not _is_flat(kind):
                raise DataRefused(
                    f"{path}: the column {name} is nested: {kind}",
                    "Deliver it as text or numbers (several values of a cell as one text with a separator, for the "
                    "role multi_valued), or give it the role ignored.",
                )
        return DropFile(path, index, names, 0, 1, file.folder)

    def plan(self, file: DropFile, csv: CsvSettings, max_field_bytes: int, chunk_bytes: int) -> Iterator[Chunk]:
        """As `Source.plan`: one or more row groups make a chunk."""
        with _opened(file.path) as parquet:
            groups = [parquet.metadata.row_group(number) for number in range(parquet.num_row_groups)]
            rows = [group.num_rows for group in groups]
            sizes = [group.total_byte_size for group in groups]
        start = size = count = part = 0
        first_row = 1
        for number, (group_rows, group_bytes) in enumerate(zip(rows, sizes, strict=True)):
            size, count = size + group_bytes, count + group_rows
            if size >= chunk_bytes or number == len(rows) - 1:
                yield Chunk(file, part, start, number + 1 - start, first_row)
                first_row, part = first_row + count, part + -(-count // _BATCH_ROWS)
                start, size, count = number + 1, 0, 0

    def read(
        self, chunk: Chunk, wanted: Sequence[str], csv: CsvSettings, max_field_bytes: int, chunk_bytes: int
    ) -> Iterator[TextRows]:
        """As `Source.read`. A column that is nested, which none is that the feature table reads, comes as JSON."""
        file = chunk.file
        line, size = chunk.first_line, 0
        part = number = chunk.part
        pending: list[list[Any]] = []
        with _opened(file.path) as parquet:
            names = dict(zip(file.fields, parquet.schema_arrow.names, strict=True))
            columns = [names[source] for source in wanted]
            batches = parquet.iter_batches(
                _BATCH_ROWS, range(chunk.start, chunk.start + chunk.length), columns or None, use_threads=False
            )
            for batch in _readable(batches, file.path):
                by_name = dict(zip(batch.schema.names, batch.columns, strict=True))
                # Without a column the rows still count.
                texts = [_texts_of(by_name[name], name, file.path) for name in columns] or [
                    _empty_texts(batch.num_rows)
                ]
                pending.append(texts)
                size += sum(column.nbytes for column in texts)
                number += 1
                if size >= chunk_bytes:
                    yield _rows(pending, part, line, wanted)
                    line += sum(len(texts[0]) for texts in pending)
                    part, size, pending = number, 0, []
        if pending:
            yield _rows(pending, part, line, wanted)

    def sample(self, path: str, rows: int) -> SampledRows | None:
        """As `Source.sample`: from row groups spread over the file, rows spread over each."""
        if not filesystem.size(path):
            return SampledRows((), [], 0)
        with _opened(path) as parquet:
            count = parquet.num_row_groups
            groups = sorted({round(place) for place in np.linspace(0, max(count - 1, 0), min(count, _SAMPLED_GROUPS))})
            texts: list[list[str]] = []
            for group in groups if count else []:
                quota = max(rows // len(groups), 1)
                step = max(parquet.metadata.row_group(group).num_rows // quota, 1)
                offset = 0
                for batch in _readable(parquet.iter_batches(_BATCH_ROWS, [group], use_threads=False), path):
                    chosen = batch.take(pa.array(range(-offset % step, batch.num_rows, step), pa.int64()))
                    offset += batch.num_rows
                    columns = zip(chosen.schema.names, chosen.columns, strict=True)
                    cells = [_texts_of(column, name, path).to_pylist() for name, column in columns]
                    texts += [[cell.decode("utf-8", "replace") for cell in row] for row in zip(*cells, strict=True)]
            return SampledRows(_names(parquet.schema_arrow), texts, parquet.metadata.num_rows)


def _names(schema: Any) -> tuple[str, ...]:
    """The columns' names; a data frame's index has none."""
    return tuple("" if _INDEX.fullmatch(name) else name for name in schema.names)


@contextmanager
def _opened(path: str) -> Iterator[Any]:
    import pyarrow.parquet as pq

    try:
        raw = filesystem.open_read(path)
    except FileNotFoundError:
        raise DataRefused(
            f"{path}: has vanished or was replaced while it was read", "Run again on the whole drop."
        ) from None
    except PermissionError as error:
        raise ConfigError(
            f"{path}: cannot be read: {error.strerror}", "Give the account that runs this the right to."
        ) from None
    with raw:
        try:
            parquet = pq.ParquetFile(raw, buffer_size=_BUFFER_BYTES, pre_buffer=False)
        except (pa.ArrowException, OSError) as error:
            raise _damaged(path, error) from None
        yield parquet


def _readable(batches: Iterator[Any], path: str) -> Iterator[Any]:
    try:
        yield from batches
    except (pa.ArrowException, OSError) as error:
        raise _damaged(path, error) from None


def _damaged(path: str, error: Exception) -> DataRefused:
    what = str(error).strip().partition("\n")[0]
    return DataRefused(
        f"{path}: cannot be read as Parquet: {what}",
        "Deliver the file again, whole and not encrypted; if it is not Parquet, its name must not end in .parquet.",
    )


def _rows(pending: list[list[Any]], part: int, line: int, wanted: Sequence[str]) -> TextRows:
    columns = [pa.concat_arrays(list(column)) for column in zip(*pending, strict=True)]
    count = len(columns[0])

    def text_of(row: int) -> str:
        cells = {
            name: column[row].as_py().decode("utf-8", "backslashreplace")
            for name, column in zip(wanted, columns, strict=True)
        }
        return json.dumps(cells, ensure_ascii=False)

    return TextRows(part, count, columns[: len(wanted)], np.arange(line, line + count), text_of)


def _is_flat(kind: Any) -> bool:
    if pa.types.is_dictionary(kind):
        return _is_flat(kind.value_type)
    return not (pa.types.is_nested(kind) or pa.types.is_union(kind) or kind == pa.month_day_nano_interval())


def _texts_of(column: Any, name: str, path: str) -> Any:
    try:
        return as_texts(column)
    except _UnknownZone as error:
        raise DataRefused(
            f"{path}: the times of the column {name} are in an unknown zone, {error}", "Deliver times in UTC."
        ) from None


def as_texts(column: Any) -> Any:
    """A column of any type as `pa.BinaryArray` without nulls, as a CSV export would write it; of a nested one, JSON."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        return as_texts(column.dictionary).take(column.indices.cast(pa.int64())).fill_null(b"")
    if pa.types.is_null(kind):
        return _empty_texts(len(column))
    if isinstance(column, pa.ExtensionArray):
        return as_texts(column.storage)
    if not _is_flat(kind):
        cells = ["" if cell is None else json.dumps(cell, default=str) for cell in column.to_pylist()]
        return pa.array(cells, pa.string()).cast(pa.binary())
    if pa.types.is_floating(kind):
        words = _numbers(column)
    elif pa.types.is_timestamp(kind):
        words = _times(column)
    elif pa.types.is_duration(kind):
        words = column.cast(pa.int64()).cast(pa.string())
    elif pa.types.is_decimal(kind):
        words = pa.array([None if cell is None else format(cell, "f") for cell in column.to_pylist()], pa.string())
    elif pa.types.is_fixed_size_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary(kind):
        words = column
    else:
        words = column.cast(pa.string())
        if pa.types.is_time(kind):
            words = pc.replace_substring_regex(words, r"\.0+$", "")
    return words.cast(pa.binary()).fill_null(b"")


def _empty_texts(rows: int) -> Any:
    return pa.array([b""] * rows, pa.binary())


def _numbers(column: Any) -> Any:
    wide = _from_half(column) if pa.types.is_float16(column.type) else column
    values = wide.to_numpy(zero_copy_only=False).astype(np.float64)
    with np.errstate(invalid="ignore"):
        whole: Bools = (values == np.trunc(values)) & (np.abs(values) <= _EXACT)
    digits = pa.array(np.where(whole, values, 0).astype(np.int64)).cast(pa.string())
    written = wide.cast(pa.string())
    return pc.if_else(pa.array(whole), digits, written) if whole.any() else written


def _from_half(column: Any) -> Any:
    """Arrow's older releases do not convert these."""
    values = column.to_numpy(zero_copy_only=False).astype(np.float32)
    return pa.array(values, mask=column.is_null().to_numpy(zero_copy_only=False))


def _times(column: Any) -> Any:
    """`YYYY-MM-DD HH:MM:SS`, with a fraction where there is one; in the column's zone, where it has one."""
    unit, zone = column.type.unit, column.type.tz
    ticks = column.cast(pa.int64())
    if zone is not None and zone.upper() not in _UNIVERSAL:
        ticks = pc.add(ticks, _offsets(ticks, unit, zone))
    return pc.replace_substring_regex(ticks.cast(pa.timestamp(unit)).cast(pa.string()), r"\.0+$", "")


class _UnknownZone(ValueError):
    """A time zone that this machine does not know."""


def _offsets(ticks: Any, unit: str, zone: str) -> Any:
    """By how much the zone's clock is ahead of universal time, in units of the column."""
    import pandas as pd

    per_second = _TICKS_PER_SECOND[unit]
    seconds = ticks.fill_null(0).to_numpy() // per_second
    # What is beyond a data frame's years has the offset of the last of them.
    known = pd.Series(np.clip(seconds, -_LAST_KNOWN_SECOND, _LAST_KNOWN_SECOND).astype("datetime64[s]"))
    try:
        local = known.dt.tz_localize("UTC").dt.tz_convert(zone).dt.tz_localize(None)
    except (KeyError, ValueError) as error:
        raise _UnknownZone(zone) from error
    return pa.array((local - known).dt.total_seconds().to_numpy().astype(np.int64) * per_second)
