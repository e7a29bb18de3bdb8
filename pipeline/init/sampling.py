"""Reads a spread of rows from CSV files about which nothing is known yet."""

from __future__ import annotations

import csv
import re
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from schema.errors import ConfigError

MONTH_FOLDER = re.compile(r"\d{4}-(0[1-9]|1[0-2])")
SUFFIXES = (".csv", ".tsv", ".txt", ".csv.gz", ".tsv.gz", ".txt.gz")
DELIMITERS = (",", "\t", ";", "|")

_MAX_FILES = 24
_MAX_BYTES = 32 * 1024 * 1024
_BLOCKS_PER_FILE = 16
_SNIFFED_RECORDS = 200
#: A quoted field that has not ended after so many lines is a stray quote.
_MAX_RECORD_LINES = 50
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_HTML = re.compile(r"<[a-zA-Z/!]")
_Item = TypeVar("_Item")


@dataclass(frozen=True)
class Sample:
    """Rows of a click log, as text.

    Attributes:
        root: The data's location, as given.
        files: Every file found, in order.
        delimiter: The character between fields.
        header: Whether the files' first rows name the columns.
        columns: The columns' names in the header; empty if there is none.
        cells: By column, the cells of the sampled rows in the order of the files. Every column has as many.
        folders: By sampled row, the folder of its file, against which relative image paths are resolved.
        bad_rows: How many rows read had another number of fields or were not UTF-8.
        estimated_rows: About how many rows all files hold.
        warnings: What was odd about the files.
    """

    root: Path
    files: tuple[Path, ...]
    delimiter: str
    header: bool
    columns: tuple[str, ...]
    cells: tuple[tuple[str, ...], ...]
    folders: tuple[Path, ...]
    bad_rows: int
    estimated_rows: int
    warnings: tuple[str, ...]

    @property
    def rows(self) -> int:
        return len(self.folders)


def find_files(path: Path) -> tuple[Path, ...]:
    """Finds the CSV files of a click log, months in order.

    Raises:
        ConfigError: There are none.
    """
    if path.is_file():
        return (path,)
    if not path.is_dir():
        raise ConfigError(
            f"{path}: no such file or folder", "Give a CSV file, a folder of them, or a folder of months."
        )
    months = sorted(folder for folder in path.iterdir() if folder.is_dir() and MONTH_FOLDER.fullmatch(folder.name))
    files = tuple(file for folder in months for file in _csv_files(folder)) or _csv_files(path)
    if not files:
        raise ConfigError(
            f"{path}: holds no {', '.join(SUFFIXES)} file, neither itself nor in folders named YYYY-MM",
            "Put each month's files into a folder named after it, such as 2026-10, or give the folder of the files.",
        )
    return files


def _csv_files(folder: Path) -> tuple[Path, ...]:
    return tuple(sorted(file for file in folder.iterdir() if file.is_file() and file.name.lower().endswith(SUFFIXES)))


def sample(path: Path, max_rows: int = 20_000) -> Sample:
    """Reads rows spread evenly over the files of a click log.

    Args:
        path: A CSV file, a folder of CSV files, or a folder of month folders (YYYY-MM).
        max_rows: About how many rows to read at most.

    Raises:
        ConfigError: There is no file, no row, no delimiter, or the header is not usable.
    """
    files = find_files(path)
    filled = [file for file in files if file.stat().st_size > 0]
    if not filled:
        raise ConfigError(
            f"{path}: every file is empty: {', '.join(file.name for file in files[:5])}", "Export them anew."
        )
    chosen = _spread(filled, _MAX_FILES)
    heads = {}
    for file in chosen:
        block = _blocks(file, 256 * 1024, 1)[0]
        if block.startswith((b"\xff\xfe", b"\xfe\xff")):
            raise ConfigError(f"{file}: is UTF-16 text", "Convert it, for example with `iconv -f UTF-16 -t UTF-8`.")
        heads[file] = _records(block)
    sniffed = [text for head in heads.values() for text in head[:_SNIFFED_RECORDS]][: 10 * _SNIFFED_RECORDS]
    if not sniffed:
        raise ConfigError(f"{path}: no file holds a readable row", "They are empty or damaged: export them anew.")
    delimiter = _sniff_delimiter(sniffed, chosen[0])
    first_file = next(file for file in chosen if heads[file])
    first_rows = [_fields(text, delimiter) for text in heads[first_file][:_SNIFFED_RECORDS]]
    header = _has_header(first_rows)
    columns = tuple(first_rows[0]) if header else ()
    if header:
        repeated = [name for name, count in Counter(columns).items() if count > 1]
        if repeated:
            raise ConfigError(f"{first_file}: row 1: the header names {repeated[0]!r} twice", "Rename one of them.")
    width = len(columns) or Counter(len(row) for row in first_rows).most_common(1)[0][0]

    rows: list[list[str]] = []
    folders: list[Path] = []
    warnings: list[str] = []
    bad = undecodable = read = 0
    bytes_read = 0
    quota = max(1, max_rows // len(chosen))
    for file in chosen:
        blocks = _blocks(file, _MAX_BYTES // len(chosen), _BLOCKS_PER_FILE)
        texts = [text for block in blocks for text in _records(block)]
        bytes_read += sum(len(block) for block in blocks)
        read += len(texts)
        order: list[int] | None = None
        if header and texts:
            names = _fields(texts.pop(0), delimiter)
            if sorted(names) != sorted(columns):
                absent, extra = sorted(set(columns) - set(names)), sorted(set(names) - set(columns))
                warnings.append(
                    f"{file}: row 1: the header differs from that of {first_file}"
                    + (f"; it lacks {', '.join(absent)}" if absent else "")
                    + (f"; it adds {', '.join(extra)}" if extra else "")
                    + ". The file was left out of the sample."
                )
                continue
            order = [names.index(name) for name in columns]
        for text in _spread(texts, quota):
            if "\ufffd" in text:
                undecodable += 1
                continue
            fields = _fields(text, delimiter)
            if len(fields) != width:
                bad += 1
                continue
            rows.append([fields[index] for index in order] if order else fields)
            folders.append(file.parent)
    if not rows:
        if undecodable:
            raise ConfigError(f"{path}: no row is UTF-8 text", "Convert the files, for example with `iconv -t UTF-8`.")
        raise ConfigError(
            f"{path}: no row below the header has its {width} fields", "Export the files anew, as RFC 4180 CSV."
        )
    for count, what in ((bad, f"do not have {width} fields"), (undecodable, "are not UTF-8 text")):
        if count:
            share = count / (len(rows) + bad + undecodable)
            warnings.append(f"{count:,} of the sampled rows ({share:.2%}) {what}; ingestion will quarantine such rows.")
    total_bytes = sum(_plain_size(file) for file in filled)
    return Sample(
        root=path,
        files=files,
        delimiter=delimiter,
        header=header,
        columns=columns,
        cells=tuple(zip(*rows, strict=True)),
        folders=tuple(folders),
        bad_rows=bad + undecodable,
        estimated_rows=max(len(rows), round(total_bytes * read / max(bytes_read, 1))),
        warnings=tuple(warnings),
    )


def _spread(items: Sequence[_Item], count: int) -> list[_Item]:
    """At most `count` items, evenly spread, the first and the last among them."""
    if len(items) <= count:
        return list(items)
    return [items[round(index * (len(items) - 1) / max(1, count - 1))] for index in range(count)]


def _blocks(file: Path, max_bytes: int, count: int) -> list[bytes]:
    """Stretches of whole lines: the whole file if it fits in `max_bytes`, else some spread over it."""
    if file.name.lower().endswith(".gz"):
        return [_whole_lines(_unzip(file, max_bytes), first=True)]
    size = file.stat().st_size
    with file.open("rb") as stream:
        if size <= max_bytes:
            return [stream.read()]
        length = max_bytes // count
        blocks = []
        for index in range(count):
            stream.seek(index * (size - length) // max(1, count - 1))
            blocks.append(_whole_lines(stream.read(length), first=index == 0))
        return blocks


def _whole_lines(block: bytes, *, first: bool) -> bytes:
    start = 0 if first else block.find(b"\n") + 1
    end = block.rfind(b"\n") + 1
    return block[start : end or len(block)]


def _unzip(file: Path, max_bytes: int) -> bytes:
    """The first bytes of a gzip file; of a damaged one, those before the damage."""
    unzipped = bytearray()
    decoder = zlib.decompressobj(wbits=31)
    with file.open("rb") as stream:
        pending = b""
        while len(unzipped) < max_bytes:
            data = pending or stream.read(1 << 20)
            if not data:
                break
            try:
                unzipped += decoder.decompress(data, max_bytes - len(unzipped))
            except zlib.error:
                break
            pending = decoder.unconsumed_tail
            if decoder.eof:
                pending = decoder.unused_data
                decoder = zlib.decompressobj(wbits=31)
    return bytes(unzipped)


def _plain_size(file: Path) -> int:
    """The size in bytes of a file's text."""
    size = file.stat().st_size
    if not file.name.lower().endswith(".gz") or size < 18:
        return size
    # A gzip file ends with the length of its last member, modulo 2^32: good enough for an estimate.
    with file.open("rb") as stream:
        stream.seek(-4, 2)
        return max(size, int.from_bytes(stream.read(4), "little") if size < 1 << 30 else 4 * size)


def _records(block: bytes) -> list[str]:
    """Splits text into records; a quoted field may hold line ends, a stray quote costs one record only."""
    lines = block.removeprefix(b"\xef\xbb\xbf").decode("utf-8", errors="replace").split("\n")
    records = []
    index = 0
    while index < len(lines):
        end = index + 1
        if lines[index].count('"') % 2:
            limit = min(len(lines), index + _MAX_RECORD_LINES)
            closing = next((n for n in range(index + 1, limit) if lines[n].count('"') % 2), None)
            end = index + 1 if closing is None else closing + 1
        text = "\n".join(lines[index:end]).removesuffix("\r")
        if text:
            records.append(text)
        index = end
    return records


def _fields(text: str, delimiter: str) -> list[str]:
    try:
        return next(csv.reader([text], delimiter=delimiter), [])
    except csv.Error:
        return []


def _sniff_delimiter(records: Sequence[str], file: Path) -> str:
    """The delimiter that gives most records the same number of fields; of several, the one that gives most."""
    candidates = []
    for delimiter in DELIMITERS:
        widths = Counter(len(_fields(text, delimiter)) for text in records)
        width, count = max(widths.items(), key=lambda item: (item[1], item[0]))
        if width > 1:
            candidates.append((count / len(records), width, delimiter))
    if not candidates:
        raise ConfigError(
            f"{file}: row 1: no delimiter found: neither comma, tab, semicolon nor | divides the rows evenly",
            "Export the data as CSV with one of these between fields.",
        )
    best = max(share for share, _, _ in candidates)
    return max((width, share, delimiter) for share, width, delimiter in candidates if share >= best - 0.1)[2]


def _has_header(rows: Sequence[Sequence[str]]) -> bool:
    """Whether the first row names the columns: words, none of them a value of its own column."""
    first, rest = rows[0], rows[1:]
    # An index written by a data frame library has an empty name, always the first.
    if any(not cell.strip() for cell in first[1:]) or any(_NUMBER.fullmatch(cell.strip()) for cell in first):
        return False
    if any(_HTML.search(cell) or len(cell) > 128 for cell in first):
        return False
    # Files joined end to end repeat their header.
    values = zip(*(row for row in rest if len(row) == len(first) and row != first), strict=True)
    return not any(cell in column for cell, column in zip(first, values, strict=False))
