"""Reads a spread of rows from files about which nothing is known yet."""

from __future__ import annotations

import codecs
import csv
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from adclick.components.ad_example_gen.drop_names import (
    PassedOver,
    is_litter,
    is_month,
    listed,
    refuse_misnamed,
    sort_entries,
)
from adclick.components.ad_example_gen.sources import ENDINGS, FORMS, SOURCES, source_of
from adclick.components.ad_example_gen.sources.csv_records import FieldError, read_header
from adclick.components.ad_example_gen.sources.decompression import compression_of, plain_size
from adclick.components.ad_example_gen.sources.source import SampledRows
from adclick.components.ad_example_gen.sources.text_encoding import UTF_8
from adclick.components.ad_example_gen.sources.text_streams import open_text
from adclick.pipeline.onboarding.encoding import detect_encoding
from adclick.pipeline.onboarding.header import decide_header
from adclick.schema.errors import ConfigError, DataRefused

DELIMITERS = (",", "\t", ";", "|")

_MAX_FILES = 24
_MAX_BYTES = 32 * 1024 * 1024
_BLOCKS_PER_FILE = 16
_SNIFFED_RECORDS = 200
#: A quoted field that has not ended after so many lines is a stray quote.
_MAX_RECORD_LINES = 50
_HEAD_BYTES = 256 * 1024
#: A file that has so much of the first one's columns is one of the same log.
_LIKE_HEADER = 0.5
_ALIGNMENT = 4
_Item = TypeVar("_Item")
_Text = TypeVar("_Text", str, bytes)


@dataclass(frozen=True)
class LogSample:
    """Rows of a click log, as text.

    Attributes:
        root: The data's location, as given.
        files: Every file found, in order.
        encoding: What they are encoded in, as `csv.encoding` takes it.
        delimiter: The character between fields.
        header: Whether the files' first rows name the columns.
        columns: The columns' names in the header; empty if there is none.
        cells: By column, the cells of the sampled rows in the order of the files. Every column has as many.
        folders: By sampled row, the folder of its file, against which relative image paths are resolved.
        bad_rows: How many rows read had another number of fields or could not be decoded.
        estimated_rows: About how many rows all files hold.
        warnings: What was odd about the files.
    """

    root: Path
    files: tuple[Path, ...]
    encoding: str
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


@dataclass(frozen=True)
class FoundFiles:
    """What a click log consists of.

    Attributes:
        files: Its files, months in order.
        unread: What is neither a month nor a day's folder nor a file of a source nor an image, relative to the log's
            folder.
        litter: How many files and folders systems left behind.
    """

    files: tuple[Path, ...]
    unread: tuple[str, ...] = ()
    litter: int = 0


def find_files(path: Path) -> FoundFiles:
    """Finds the files of a click log.

    Raises:
        ConfigError: There are none, a folder is named nearly as a month is, or a folder cannot be listed.
    """
    if path.is_file():
        return FoundFiles((path,))
    if not path.is_dir():
        raise ConfigError(
            f"{path}: no such file or folder", f"Give a {FORMS} file, a folder of them, or a folder of months."
        )
    try:
        found = _find_in(path)
    except OSError as error:
        raise ConfigError(
            f"{error.filename}: cannot be read: {error.strerror}", "Give yourself the right to."
        ) from None
    if not found.files:
        raise ConfigError(
            f"{path}: holds no {FORMS} file, neither itself nor in folders named YYYY-MM",
            f"Names end in {ENDINGS}. "
            + (f"It holds {listed(found.unread)}. " if found.unread else "")
            + "Put each month's files into a folder named after it, such as 2026-10, or give the folder of the files.",
        )
    return found


def _find_in(root: Path) -> FoundFiles:
    files, folders = _entries(root)
    refuse_misnamed(str(root), folders)
    months = sorted(name for name in folders if is_month(name))
    if not months:
        return _files_in(root, month=None)
    others = [*files, *(f"{name}/" for name in folders if not is_month(name))]
    found = [_files_in(root / name, month=name) for name in months]
    return FoundFiles(
        tuple(file for each in found for file in each.files),
        (
            *sorted(name for name in others if not is_litter(name)),
            *(f"{name}/{entry}" for name, each in zip(months, found, strict=True) for entry in each.unread),
        ),
        sum(each.litter for each in found) + sum(map(is_litter, others)),
    )


def _files_in(folder: Path, month: str | None) -> FoundFiles:
    entries = sort_entries(*_entries(folder), month=month)
    files = [folder / name for name in entries.read]
    unread, litter = list(entries.unread), len(entries.litter)
    for day in entries.days:
        within = _files_in(folder / day, month=None)
        files += within.files
        unread += [f"{day}/{name}" for name in within.unread]
        litter += within.litter
    return FoundFiles(tuple(files), tuple(unread), litter)


def _entries(folder: Path) -> tuple[list[str], list[str]]:
    """Names of the files and of the folders in a folder."""
    with os.scandir(folder) as entries:
        files, folders = list[str](), list[str]()
        for entry in entries:
            (folders if entry.is_dir() else files).append(entry.name)
    return files, folders


def sample(path: Path, max_rows: int = 20_000) -> LogSample:
    """Reads rows spread evenly over the files of a click log.

    Args:
        path: A file, a folder of files, or a folder of month folders (YYYY-MM).
        max_rows: About how many rows to read at most.

    Raises:
        ConfigError: There is no file, no row, no delimiter, or the header is not usable.
    """
    found = find_files(path)
    files = found.files
    forms = {source.name: file for source in SOURCES for file in files[::-1] if source_of(file.name) is source}
    if len(forms) > 1:
        shown = " and ".join(f"{form} ({file})" for form, file in forms.items())
        raise ConfigError(
            f"{path}: holds {shown}: what is guessed of one may not hold for the other",
            "Give a month or a file of one form; the config that comes of it reads both.",
        )
    filled = [file for file in files if file.stat().st_size > 0]
    if not filled:
        raise ConfigError(
            f"{path}: every file is empty: {', '.join(file.name for file in files[:5])}", "Export them anew."
        )
    try:
        chosen = _spread(filled, _MAX_FILES)
        described = {file: source_of(file.name).sample(str(file), max(1, max_rows // len(chosen))) for file in chosen}
        rows = {file: found for file, found in described.items() if found is not None}
        return _described(path, found, filled, rows) if rows else _sample(path, found, filled, max_rows)
    except DataRefused as error:
        raise ConfigError(error.message, error.remedy) from None
    except OSError as error:
        raise ConfigError(
            f"{error.filename}: cannot be read: {error.strerror}", "Give yourself the right to."
        ) from None


def _sample(path: Path, found: FoundFiles, filled: Sequence[Path], max_rows: int) -> LogSample:
    files = found.files
    chosen = _spread(filled, _MAX_FILES)
    encoding = detect_encoding({file: _blocks(file, _HEAD_BYTES, 1)[0] for file in chosen})
    heads = {file: _records(_texts(file, _HEAD_BYTES, 1, encoding.name)[0]) for file in chosen}
    sniffed = [text for head in heads.values() for text in head[:_SNIFFED_RECORDS]][: 10 * _SNIFFED_RECORDS]
    if not sniffed:
        raise ConfigError(f"{path}: no file holds a readable row", "They are empty or damaged: export them anew.")
    delimiter = _sniff_delimiter(sniffed, chosen[0])
    first_file = next(file for file in chosen if heads[file])
    first_rows = [_fields(text, delimiter) for text in heads[first_file][:_SNIFFED_RECORDS]]
    decision = decide_header(first_rows)
    header = decision.is_header
    headers = {file: _header_names(file, heads[file][0], delimiter) for file in chosen if header and heads[file]}
    shared = _shared_columns(headers, first_file) if header else _SharedColumns((), frozenset(), ())
    columns = shared.names
    width = len(columns) or Counter(len(row) for row in first_rows).most_common(1)[0][0]

    rows: list[list[str]] = []
    folders: list[Path] = []
    warnings = [] if decision.warning is None else [f"{first_file}: {decision.warning}"]
    warnings += [] if encoding.warning is None else [f"{path}: {encoding.warning}"]
    warnings += [f"{path}: {line}" for line in PassedOver(list(found.unread), found.litter).describe()]
    warnings += shared.warnings
    bad = undecodable = read = 0
    bytes_read = 0
    quota = max(1, max_rows // len(chosen))
    for file in chosen:
        blocks = _texts(file, _MAX_BYTES // len(chosen), _BLOCKS_PER_FILE, encoding.name)
        texts = [text for block in blocks for text in _records(block)]
        bytes_read += sum(len(block.encode(encoding.name, "replace")) for block in blocks)
        read += len(texts)
        order: list[int] | None = None
        if header and texts:
            names = headers[file]
            texts.pop(0)
            if names not in shared.alike:
                continue
            order = [names.index(name) for name in columns]
            width = len(names)
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
            raise ConfigError(
                f"{path}: no row is {encoding.name.upper()} text",
                "Convert the files, for example with `iconv -t UTF-8`.",
            )
        raise ConfigError(
            f"{path}: no row below the header has its {width} fields", "Export the files anew, as RFC 4180 CSV."
        )
    for count, what in ((bad, f"do not have {width} fields"), (undecodable, f"are not {encoding.name.upper()} text")):
        if count:
            share = count / (len(rows) + bad + undecodable)
            warnings.append(f"{count:,} of the sampled rows ({share:.2%}) {what}; ingestion will quarantine such rows.")
    total_bytes = sum(plain_size(str(file)) for file in filled)
    return LogSample(
        root=path,
        files=files,
        encoding=encoding.name,
        delimiter=delimiter,
        header=header,
        columns=columns,
        cells=tuple(zip(*rows, strict=True)),
        folders=tuple(folders),
        bad_rows=bad + undecodable,
        estimated_rows=max(len(rows), round(total_bytes * read / max(bytes_read, 1))),
        warnings=tuple(warnings),
    )


def _described(path: Path, found: FoundFiles, filled: Sequence[Path], sampled: Mapping[Path, SampledRows]) -> LogSample:
    """The sample of files that say by themselves what their columns are."""
    with_rows = {file: rows for file, rows in sampled.items() if rows.rows}
    if not with_rows:
        raise ConfigError(f"{path}: no file holds a row", "Export them anew.")
    first_file = next(iter(with_rows))
    shared = _shared_columns({file: rows.fields for file, rows in with_rows.items()}, first_file)
    cells: list[list[str]] = []
    folders: list[Path] = []
    for file, rows in with_rows.items():
        if rows.fields in shared.alike:
            order = [rows.fields.index(name) for name in shared.names]
            cells += [[row[index] for index in order] for row in rows.rows]
            folders += [file.parent] * len(rows.rows)
    total = sum(rows.total for rows in sampled.values())
    return LogSample(
        root=path,
        files=found.files,
        encoding=UTF_8,
        delimiter=DELIMITERS[0],
        header=True,
        columns=shared.names,
        cells=tuple(zip(*cells, strict=True)),
        folders=tuple(folders),
        bad_rows=0,
        estimated_rows=round(total * len(filled) / len(sampled)),
        warnings=(
            *(f"{path}: {line}" for line in PassedOver(list(found.unread), found.litter).describe()),
            *shared.warnings,
        ),
    )


@dataclass(frozen=True)
class _SharedColumns:
    """The columns that all files of a log have, what files of it are called by, and how files differ."""

    names: tuple[str, ...]
    alike: frozenset[tuple[str, ...]]
    warnings: tuple[str, ...]


def _shared_columns(headers: Mapping[Path, tuple[str, ...]], first_file: Path) -> _SharedColumns:
    first = headers[first_file]
    repeated = [name for name, count in Counter(first).items() if count > 1 and name.strip()]
    if repeated:
        raise ConfigError(f"{first_file}: row 1: the header names {repeated[0]!r} twice", "Rename one of them.")
    alike = {names for names in headers.values() if len(set(names) & set(first)) >= _LIKE_HEADER * len(first)}
    warnings = []
    for file, names in headers.items():
        absent, extra = sorted(set(first) - set(names)), sorted(set(names) - set(first))
        if absent or extra:
            warnings.append(
                f"{file}: row 1: the header differs from that of {first_file}"
                + (f"; it lacks {', '.join(absent)}" if absent else "")
                + (f"; it adds {', '.join(extra)}" if extra else "")
                + (". Only columns that all files have are used." if names in alike else ". It was left out.")
            )
    shared = tuple(name for name in first if all(name in names for names in alike))
    return _SharedColumns(shared, frozenset(alike), tuple(warnings))


def _spread(items: Sequence[_Item], count: int) -> list[_Item]:
    """At most `count` items, evenly spread, the first and the last among them."""
    if len(items) <= count:
        return list(items)
    return [items[round(index * (len(items) - 1) / max(1, count - 1))] for index in range(count)]


def _blocks(file: Path, max_bytes: int, count: int) -> list[bytes]:
    """Stretches of a file, decompressed: the whole of it if it fits in `max_bytes`, else some spread over it."""
    if compression_of(file.name) is not None:
        raw, text = open_text(str(file), UTF_8)
        with raw:
            return [text.read(max_bytes)]
    size = file.stat().st_size
    with file.open("rb") as stream:
        if size <= max_bytes:
            return [stream.read()]
        length = max_bytes // count // _ALIGNMENT * _ALIGNMENT
        blocks = []
        for index in range(count):
            # Characters of two or four bytes begin at multiples of these.
            stream.seek(index * (size - length) // max(1, count - 1) // _ALIGNMENT * _ALIGNMENT)
            blocks.append(stream.read(length))
        return blocks


def _texts(file: Path, max_bytes: int, count: int, encoding: str) -> list[str]:
    """The stretches as whole lines of text; what cannot be decoded as U+FFFD."""
    blocks = _blocks(file, max_bytes, count)
    is_whole = len(blocks) == 1 and len(blocks[0]) < max_bytes
    codec = encoding
    if encoding in ("utf-16", "utf-32"):
        # Without the mark at its beginning a stretch does not say which byte comes first.
        codec += "-be" if blocks[0].startswith((codecs.BOM_UTF16_BE, codecs.BOM_UTF32_BE)) else "-le"
    texts = []
    for number, block in enumerate(blocks):
        if not codec.startswith(("utf-16", "utf-32")):
            texts.append(_whole_lines(block, b"\n", is_first=not number, is_whole=is_whole).decode(codec, "replace"))
        else:
            text = block.decode(codec, "replace")
            texts.append(_whole_lines(text, "\n", is_first=not number, is_whole=is_whole))
    texts[0] = texts[0].removeprefix("\ufeff")
    return texts


def _whole_lines(block: _Text, newline: _Text, *, is_first: bool, is_whole: bool) -> _Text:
    start = 0 if is_first else block.find(newline) + 1
    end = len(block) if is_whole else block.rfind(newline) + 1
    return block[start : end or len(block)]


def _records(block: str) -> list[str]:
    """Splits text into records; a quoted field may hold line ends, a stray quote costs one record only."""
    lines = block.split("\n")
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


def _header_names(file: Path, text: str, delimiter: str) -> tuple[str, ...]:
    """The columns' names, read as ingestion reads them."""
    try:
        names = read_header(text.encode(), delimiter).names
    except FieldError as error:
        raise ConfigError(
            f"{file}: row 1: the header cannot be taken apart: {error.reason.replace('_', ' ')} in {text[:200]!r}",
            "Export the data as RFC 4180 CSV.",
        ) from None
    if any("\ufffd" in name for name in names):
        raise ConfigError(f"{file}: row 1: the header cannot be decoded: {text[:200]!r}", "Export the data as UTF-8.")
    return names


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
