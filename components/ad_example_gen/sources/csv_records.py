"""CSV bytes to columns of text (RFC 4180), a chunk at a time: whole arrays where the text is regular, Python where not.

A record is a physical line, unless a quoted field holds line ends. A quote that is opened and never properly closed
costs its own line alone, never the rest of the file: lines are joined only when together they make a record of the
right number of fields, none longer than allowed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv

from adclick.components.ad_example_gen.reasons import (
    FIELD_TOO_LONG,
    MALFORMED_QUOTE,
    UNTERMINATED_QUOTE,
    WRONG_FIELD_COUNT,
)

_NEWLINE, _RETURN, _QUOTE = 10, 13, 34
_BOM = b"\xef\xbb\xbf"
#: How much of a line is kept that is longer than any good row can be.
_KEPT_BYTES = 1_024
#: A quoted name that has not ended after so many lines is a stray quote.
_MOST_HEADER_LINES = 50

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Dialect:
    """How the rows of a file are written.

    Attributes:
        delimiter: One ASCII character between fields.
        fields: The number of fields of a row.
        max_field_bytes: A longer field makes a row bad.
    """

    delimiter: str
    fields: int
    max_field_bytes: int

    @property
    def max_record_bytes(self) -> int:
        """No good row is longer: every field at its limit, every character of it a doubled quote."""
        return self.fields * (2 * self.max_field_bytes + 3)


class FieldError(ValueError):
    """A record that cannot be taken apart; `reason` says why."""

    def __init__(self, reason: str, value: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.value = value


_QUOTED = re.compile(rb'"([^"]*+(?:""[^"]*+)*+)"')


def split_fields(record: bytes, delimiter: str) -> list[bytes]:
    """Takes one record apart; a quote within an unquoted field stands for itself.

    Raises:
        FieldError: A quoted field is not closed, or something follows its closing quote.
    """
    separator = delimiter.encode()
    fields: list[bytes] = []
    position = 0
    while True:
        if record[position : position + 1] == b'"':
            quoted = _QUOTED.match(record, position)
            if quoted is None:
                raise FieldError(UNTERMINATED_QUOTE)
            fields.append(quoted[1].replace(b'""', b'"'))
            position = quoted.end()
            if position < len(record) and record[position : position + 1] != separator:
                raise FieldError(MALFORMED_QUOTE)
        else:
            end = record.find(separator, position)
            end = len(record) if end < 0 else end
            fields.append(record[position:end])
            position = end
        if position >= len(record):
            return fields
        position += 1


@dataclass(frozen=True)
class Header:
    """The first record of a file.

    Attributes:
        names: The columns' names as they stand.
        end: Position of the next line.
        lines: Physical lines up to it.
    """

    names: tuple[str, ...]
    end: int
    lines: int


def read_header(data: bytes, delimiter: str) -> Header:
    """Reads the first record, blank lines before it passed over; a quoted name may hold line ends.

    Raises:
        FieldError: It cannot be taken apart.
        UnicodeDecodeError: It is not UTF-8.
    """
    start = len(data) - len(data.lstrip(b"\r\n"))
    stop = start
    for _ in range(_MOST_HEADER_LINES):
        newline = data.find(b"\n", stop)
        stop = newline + 1 if newline >= 0 else len(data)
        record = data[start:stop].removesuffix(b"\n").removesuffix(b"\r")
        try:
            fields = split_fields(record, delimiter)
        except FieldError as error:
            if error.reason != UNTERMINATED_QUOTE or stop == len(data):
                raise
            continue
        return Header(tuple(field.decode() for field in fields), stop, data.count(b"\n", 0, stop))
    raise FieldError(UNTERMINATED_QUOTE)


@dataclass(frozen=True)
class Records:
    """Where the records of a buffer are; blank lines are none.

    Attributes:
        starts: Position of each record's first byte.
        ends: Position after its last byte, without the line end.
        stops: Position of the next physical line.
        lines: Physical line of its first byte, counted from 0.
        regular: Whether every reader agrees on its fields: quotes only around fields or doubled within quotes, no lone
            carriage return.
        field_counts: The number of fields of a regular record.
        consumed: Bytes of the buffer that are settled; the rest needs what follows.
        consumed_lines: Physical lines in them.
    """

    starts: Ints
    ends: Ints
    stops: Ints
    lines: Ints
    regular: Bools
    field_counts: Ints
    consumed: int
    consumed_lines: int


def find_records(data: bytes, dialect: Dialect, *, final: bool) -> Records:
    """Finds the records of a buffer that begins with a record.

    Args:
        data: The buffer.
        dialect: How rows are written.
        final: Whether nothing follows the buffer, so that a last line without a line end is whole.
    """
    array = np.frombuffer(data, np.uint8)
    newlines = np.flatnonzero(array == _NEWLINE)
    stops = newlines + 1
    if final and len(data) and data[-1] != _NEWLINE:
        newlines = np.append(newlines, len(data))
        stops = np.append(stops, len(data))
    starts = np.concatenate([[0], stops[:-1]]) if len(stops) else stops
    ends = newlines - ((newlines > starts) & (array[np.maximum(newlines - 1, 0)] == _RETURN)) if len(data) else newlines
    lines = np.arange(len(starts))
    consumed = int(stops[-1]) if len(stops) else 0
    consumed_lines = len(lines)

    quotes = np.flatnonzero(array == _QUOTE) if b'"' in data else None
    if quotes is not None:
        upto = np.searchsorted(quotes, stops)
        per_line = np.diff(upto, prepend=0)
        joined, undecided = _join_lines(data, dialect, starts, ends, np.flatnonzero(per_line & 1), final)
        if undecided is not None:
            consumed, consumed_lines = int(starts[undecided]), undecided
        first = np.ones(len(starts), np.bool_)
        first[consumed_lines:] = False
        last = np.arange(len(starts))
        for opening, closing in joined:
            first[opening + 1 : closing + 1] = False
            last[opening] = closing
        last = last[first]
        starts, lines, ends, stops = starts[first], lines[first], ends[last], stops[last]

    rows = ends > starts
    starts, ends, stops, lines = starts[rows], ends[rows], stops[rows], lines[rows]
    delimiters = np.flatnonzero(array == ord(dialect.delimiter))
    if quotes is None:
        regular = np.ones(len(starts), np.bool_)
    else:
        regular = _regular_quotes(array, quotes, starts, ends, dialect)
        delimiters = _outside_quotes(delimiters, quotes, starts, ends)
    counts = np.searchsorted(delimiters, ends) - np.searchsorted(delimiters, starts) + 1
    if b"\r" in data and data.count(b"\r") != data.count(b"\r\n"):
        returns = np.flatnonzero(array == _RETURN)
        followed = array[np.minimum(returns + 1, len(array) - 1)] == _NEWLINE
        owner = np.searchsorted(starts, returns[~followed], side="right") - 1
        regular[owner[owner >= 0]] = False
    return Records(starts, ends, stops, lines, regular, counts, consumed, consumed_lines)


def _join_lines(
    data: bytes, dialect: Dialect, starts: Ints, ends: Ints, odd: Ints, final: bool
) -> tuple[list[tuple[int, int]], int | None]:
    """Pairs lines whose quotes do not add up; gives the pairs, and the first line that the buffer cannot settle."""
    joined: list[tuple[int, int]] = []
    position = 0
    while position < len(odd):
        line = int(odd[position])
        position += 1
        try:
            split_fields(data[starts[line] : ends[line]], dialect.delimiter)
            continue
        except FieldError as error:
            if error.reason != UNTERMINATED_QUOTE:
                continue
        if position < len(odd):
            closing = int(odd[position])
            if _is_record(data[starts[line] : ends[closing]], dialect):
                joined.append((line, closing))
                position += 1
        elif not final and len(data) - starts[line] <= dialect.max_record_bytes + 2:
            return joined, line
    return joined, None


def _is_record(text: bytes, dialect: Dialect) -> bool:
    if len(text) > dialect.max_record_bytes:
        return False
    try:
        fields = split_fields(text, dialect.delimiter)
    except FieldError:
        return False
    return len(fields) == dialect.fields and max(map(len, fields)) <= dialect.max_field_bytes


def _regular_quotes(array: npt.NDArray[np.uint8], quotes: Ints, starts: Ints, ends: Ints, dialect: Dialect) -> Bools:
    """Whether each record's quotes come in pairs around whole fields, or doubled within them."""
    before = np.searchsorted(quotes, starts)
    counts = np.searchsorted(quotes, ends) - before
    regular: Bools = (counts & 1) == 0
    owner = np.repeat(np.arange(len(starts)), counts)
    inside = np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)
    places = quotes[np.repeat(before, counts) + inside]
    opening = (inside & 1) == 0
    neighbour = np.where(opening, places - 1, places + 1)
    at_edge = np.where(opening, places == starts[owner], places + 1 == ends[owner])
    beside = array[np.clip(neighbour, 0, len(array) - 1)]
    # An opening quote right after a closing one, and the closing one before it, are a doubled quote.
    good: Bools = at_edge | (beside == ord(dialect.delimiter)) | (beside == _QUOTE)
    regular[owner[~good]] = False
    return regular


def _outside_quotes(delimiters: Ints, quotes: Ints, starts: Ints, ends: Ints) -> Ints:
    """The delimiters that have an even number of quotes between them and the start of their record."""
    owner = np.searchsorted(starts, delimiters, side="right") - 1
    owned = owner >= 0
    delimiters, owner = delimiters[owned], owner[owned]
    rank = np.searchsorted(quotes, delimiters) - np.searchsorted(quotes, starts)[owner]
    outside: Ints = delimiters[(rank & 1) == 0]
    return outside


@dataclass(frozen=True)
class Rejected:
    """A record that is no row.

    Attributes:
        record: Which record of the chunk.
        reason: One of `reasons`.
        value: What offends.
    """

    record: int
    reason: str
    value: str = ""


@dataclass(frozen=True)
class TextColumns:
    """The rows of a chunk as columns of text.

    Attributes:
        columns: A `pa.BinaryArray` for each wanted field, all of one length, without nulls.
        records: int64 [rows], which record of `bounds` each row is.
        rejected: The other records.
        bounds: Where the records are.
    """

    columns: list[Any]
    records: Ints
    rejected: list[Rejected]
    bounds: Records


def parse_columns(data: bytes, dialect: Dialect, wanted: Sequence[int]) -> TextColumns:
    """Parses a whole chunk: whatever is in it, every record comes back as a row or as rejected.

    Args:
        data: Bytes that begin and end with a record.
        dialect: How rows are written.
        wanted: Positions of the fields to return.
    """
    bounds = find_records(data, dialect, final=True)
    fitting = bounds.regular & (bounds.field_counts == dialect.fields)
    fitting &= bounds.ends - bounds.starts <= dialect.max_record_bytes
    fast = np.flatnonzero(fitting)
    columns = _parse_regular(data, bounds, fitting, dialect, wanted) if len(fast) else None
    if columns is None:
        columns, fast = [pa.array([], pa.binary()) for _ in wanted], fast[:0]
        fitting = np.zeros(len(fitting), np.bool_)

    slow: list[int] = []
    texts: list[list[bytes]] = []
    rejected: list[Rejected] = []
    for record in np.flatnonzero(~fitting).tolist():
        text = data[bounds.starts[record] : bounds.ends[record]]
        if len(text) > dialect.max_record_bytes:
            rejected.append(Rejected(record, FIELD_TOO_LONG))
            continue
        try:
            fields = split_fields(text, dialect.delimiter)
        except FieldError as error:
            rejected.append(Rejected(record, error.reason))
            continue
        if len(fields) == dialect.fields:
            slow.append(record)
            texts.append([fields[position] for position in wanted])
        else:
            rejected.append(Rejected(record, WRONG_FIELD_COUNT, f"{len(fields)} instead of {dialect.fields}"))
    records = fast
    if slow:
        records = np.concatenate([fast, np.array(slow, np.int64)])
        order = pa.array(np.argsort(records, kind="stable"))
        extra = zip(*texts, strict=True)
        columns = [
            pa.concat_arrays([column, pa.array(values, pa.binary())]).take(order)
            for column, values in zip(columns, extra, strict=True)
        ]
        records = np.sort(records)
    return TextColumns(columns, records, rejected, bounds)


def _parse_regular(
    data: bytes, bounds: Records, chosen: Bools, dialect: Dialect, wanted: Sequence[int]
) -> list[Any] | None:
    """Parses the chosen records with Arrow; None if Arrow sees other rows than we do."""
    count = int(chosen.sum())
    text = data
    if count != bounds.consumed_lines:
        # Blank lines and bad records are cut out; what is left is copied in runs.
        edges = np.flatnonzero(np.diff(chosen.astype(np.int8), prepend=0, append=0))
        gaps = np.flatnonzero(chosen[1:] & chosen[:-1] & (bounds.starts[1:] != bounds.stops[:-1])) + 1
        firsts = np.sort(np.concatenate([edges[::2], gaps]))
        lasts = np.sort(np.concatenate([edges[1::2], gaps])) - 1
        runs = zip(bounds.starts[firsts].tolist(), bounds.stops[lasts].tolist(), strict=True)
        text = b"".join([data[start:stop] for start, stop in runs])
    if text.startswith(_BOM):
        return None  # Arrow takes a byte order mark away wherever a buffer begins with one
    names = [str(position) for position in range(dialect.fields)]
    try:
        table = pyarrow.csv.read_csv(
            pa.BufferReader(text),
            read_options=pyarrow.csv.ReadOptions(
                use_threads=False, block_size=max(len(text), 1) + 1, column_names=names
            ),
            parse_options=pyarrow.csv.ParseOptions(delimiter=dialect.delimiter, newlines_in_values=b'"' in text),
            convert_options=pyarrow.csv.ConvertOptions(
                check_utf8=False,
                column_types=dict.fromkeys(names, pa.binary()),
                include_columns=[names[position] for position in wanted],
                strings_can_be_null=False,
            ),
        )
    except pa.ArrowInvalid:
        return None
    if table.num_rows != count:
        return None
    return [_one_array(table.column(position)) for position in range(len(wanted))]


def _one_array(column: Any) -> Any:
    return column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays(column.chunks)


@dataclass(frozen=True)
class Block:
    """A stretch of whole records.

    Attributes:
        data: The bytes; of an overlong line only its beginning.
        offset: Position of the first byte in the stream.
        length: Bytes of the stream that it stands for.
        first_line: Physical line of the first byte, from 1.
        overlong: Whether it is one line, longer than any good row can be.
    """

    data: bytes
    offset: int
    length: int
    first_line: int
    overlong: bool = False


def read_blocks(
    read: Callable[[int], bytes], chunk_bytes: int, dialect: Dialect, *, offset: int = 0, first_line: int = 1
) -> Iterator[Block]:
    """Cuts a stream into blocks of whole records; memory is bounded whatever the stream holds.

    Args:
        read: Gives up to so many next bytes, none at the end.
        chunk_bytes: About how long a block is.
        dialect: How rows are written.
        offset: Position of the stream's first byte, which begins a record.
        first_line: Its physical line.
    """
    carry = b""
    final = False
    while not final:
        data = read(max(chunk_bytes - len(carry), chunk_bytes // 4, 1))
        final = not data
        carry += data
        if len(carry) < chunk_bytes and not final:
            continue
        consumed, lines = _settled(carry, dialect, final)
        if consumed:
            yield Block(carry[:consumed], offset, consumed, first_line)
            offset, first_line, carry = offset + consumed, first_line + lines, carry[consumed:]
        elif len(carry) > dialect.max_record_bytes + 2 and b"\n" not in carry:
            kept, length = carry[:_KEPT_BYTES], len(carry)
            carry = b""
            while not final:
                data = read(chunk_bytes)
                final = not data
                end = data.find(b"\n") + 1
                length += end or len(data)
                if end:
                    carry = data[end:]
                    break
            yield Block(kept, offset, length, first_line, overlong=True)
            offset, first_line = offset + length, first_line + 1


def _settled(data: bytes, dialect: Dialect, final: bool) -> tuple[int, int]:
    if final:
        return len(data), data.count(b"\n")
    if b'"' in data:
        found = find_records(data, dialect, final=False)
        return found.consumed, found.consumed_lines
    end = data.rfind(b"\n") + 1
    return end, data.count(b"\n")
