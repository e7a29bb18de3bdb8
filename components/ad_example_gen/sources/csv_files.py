"""CSV (RFC 4180), of any encoding, decompressed where its name says that it is compressed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from adclick.components.ad_example_gen import reasons
from adclick.components.ad_example_gen.settings import CsvSettings
from adclick.components.ad_example_gen.sources.csv_records import (
    Block,
    Dialect,
    FieldError,
    parse_columns,
    read_blocks,
    read_header,
    split_fields,
)
from adclick.components.ad_example_gen.sources.decompression import COMPRESSIONS, compression_of
from adclick.components.ad_example_gen.sources.source import (
    Chunk,
    DataFile,
    DropFile,
    QuarantinedRow,
    Source,
    TextRows,
    as_declared,
    check_columns,
)
from adclick.components.ad_example_gen.sources.text_encoding import UTF_8
from adclick.components.ad_example_gen.sources.text_streams import check_utf_8, open_text
from adclick.schema.errors import DataRefused
from adclick.schema.feature_table import FeatureTable

_PLAIN = (".csv", ".tsv", ".txt")
_BOM = b"\xef\xbb\xbf"
#: A first line is looked for in so much of a file.
_HEADER_BYTES = 1 << 20
#: Where text of two or four bytes a character shows its zeros.
_MARKED_BYTES = 64
_SHOWN_BYTES = 200


class CsvFiles(Source):
    """Fields between delimiters, a row a line."""

    name = "CSV"
    endings = f"{', '.join(_PLAIN)} (or these and {', '.join(form.suffix for form in COMPRESSIONS)})"
    suffixes = tuple(
        f"{plain}{compressed}" for compressed in ("", *(form.suffix for form in COMPRESSIONS)) for plain in _PLAIN
    )

    def open(
        self, file: DataFile, index: int, csv: CsvSettings, features: FeatureTable, *, labelled: bool
    ) -> DropFile | None:
        """As `Source.open`: reads and checks the first line.

        A file without a header has the label unless its first row is one field short.
        """
        path = file.path
        raw, stream = open_text(path, csv.encoding)
        with raw:
            beginning = stream.read(_HEADER_BYTES)
        if stream.damage and b"\n" not in beginning:
            ending = "." + path.rpartition(".")[2]
            raise DataRefused(
                f"{path}: cannot be decompressed: {stream.damage}",
                f"Deliver the file again; if it is not compressed, its name must not end in {ending}.",
            )
        if csv.encoding == UTF_8:
            check_utf_8(path, beginning[:_MARKED_BYTES])
        offset = len(_BOM) if beginning.startswith(_BOM) else 0
        if not beginning[offset:].strip(b"\r\n"):
            return None
        if not csv.header:
            names = csv.columns
            if not labelled and _count_fields(beginning[offset:], csv) == len(names) - 1:
                names = tuple(name for name in names if name != features.source_of(features.label_name))
            return DropFile(path, index, names, offset, 1, file.folder, csv.encoding)
        first = beginning[offset:].lstrip(b"\r\n").partition(b"\n")[0].removesuffix(b"\r")
        shown = first[:_SHOWN_BYTES].decode("utf-8", "backslashreplace")
        if b"\r" in first and b'"' not in first:
            raise DataRefused(
                f"{path}: its lines end in a carriage return alone", "Save the file with line ends LF or CR LF."
            )
        try:
            header = read_header(beginning[offset:], csv.delimiter)
        except UnicodeDecodeError:
            raise DataRefused(
                f"{path}: the first line is no header in {csv.encoding.upper()}: {shown}",
                "Set csv.encoding to what the files are encoded in, such as windows-1252, or save the file as UTF-8.",
            ) from None
        except FieldError:
            raise DataRefused(f"{path}: the first line is no header: {shown}", "Save the file as UTF-8 CSV.") from None
        names = as_declared(header.names, features)
        check_columns(
            path,
            names,
            features,
            labelled=labelled,
            shown=f"the first line is: {shown}",
            remedy="If the file has no header, set csv.header to false and csv.columns to the names of its columns; "
            "if a column has another name, set its `source` in the config; "
            f"if fields are not separated by {csv.delimiter!r}, set csv.delimiter.",
        )
        return DropFile(path, index, names, offset + header.end, 1 + header.lines, file.folder, csv.encoding)

    def plan(self, file: DropFile, csv: CsvSettings, max_field_bytes: int, chunk_bytes: int) -> Iterator[Chunk]:
        """As `Source.plan`, reading the file once; one that is compressed or not UTF-8 is a chunk as a whole."""
        if not _is_seekable(file):
            yield Chunk(file, 0, file.data_offset, 0, file.first_line)
            return
        raw, stream = open_text(file.path, file.encoding)
        with raw:
            raw.seek(file.data_offset)
            dialect = _dialect(file, csv, max_field_bytes)
            blocks = read_blocks(stream.read, chunk_bytes, dialect, offset=file.data_offset, first_line=file.first_line)
            for part, block in enumerate(blocks):
                yield Chunk(file, part, block.offset, block.length, block.first_line, block.overlong)

    def read(
        self, chunk: Chunk, wanted: Sequence[str], csv: CsvSettings, max_field_bytes: int, chunk_bytes: int
    ) -> Iterator[TextRows]:
        """As `Source.read`; the row in which a compressed file is damaged is rejected, and the last."""
        dialect = _dialect(chunk.file, csv, max_field_bytes)
        raw, stream = open_text(chunk.file.path, chunk.file.encoding)
        with raw:
            if _is_seekable(chunk.file):
                raw.seek(chunk.start)
                data = stream.read(chunk.length if not chunk.overlong else min(chunk.length, 1_024))
                block = Block(data, chunk.start, chunk.length, chunk.first_line, chunk.overlong)
                yield _rows(block, chunk.part, chunk.file, dialect, wanted)
                return
            stream.read(chunk.start)
            part, tail, line = 0, b"", chunk.first_line
            for block in read_blocks(stream.read, chunk_bytes, dialect, first_line=chunk.first_line):
                if stream.damage and not block.overlong:
                    # What follows the last line end is the row in which the damage lies.
                    end = block.data.rfind(b"\n") + 1
                    tail, block = block.data[end:], replace(block, data=block.data[:end])
                line = block.first_line + (1 if block.overlong else block.data.count(b"\n"))
                yield _rows(block, part, chunk.file, dialect, wanted)
                part += 1
            if stream.damage:
                text = tail.decode("utf-8", "backslashreplace")
                row = QuarantinedRow(chunk.file.name, line, reasons.TRUNCATED_FILE, "", stream.damage, text)
                nothing = _rows(Block(b"", 0, 0, line), part, chunk.file, dialect, wanted)
                yield replace(nothing, rows_in=1, rejected=[row])


def _is_seekable(file: DropFile) -> bool:
    """Whether its bytes are those of the stream, so that reading may begin anywhere."""
    return file.encoding == UTF_8 and compression_of(file.path) is None


def _dialect(file: DropFile, csv: CsvSettings, max_field_bytes: int) -> Dialect:
    return Dialect(csv.delimiter, len(file.fields), max_field_bytes)


def _count_fields(text: bytes, csv: CsvSettings) -> int:
    """The number of fields of the first line; 0 where it cannot be taken apart."""
    try:
        return len(split_fields(text.lstrip(b"\r\n").partition(b"\n")[0].removesuffix(b"\r"), csv.delimiter))
    except FieldError:
        return 0


def _rows(block: Block, part: int, file: DropFile, dialect: Dialect, wanted: Sequence[str]) -> TextRows:
    data = b"" if block.overlong else block.data
    text = parse_columns(data, dialect, [file.fields.index(source) for source in wanted])
    bounds = text.bounds
    lines = block.first_line + bounds.lines

    def text_of(record: int) -> str:
        return data[bounds.starts[record] : bounds.ends[record]].decode("utf-8", "backslashreplace")

    rejected = [
        QuarantinedRow(file.name, int(lines[item.record]), item.reason, "", item.value, text_of(item.record))
        for item in text.rejected
    ]
    rows_in = len(bounds.starts)
    if block.overlong:
        kept = block.data.decode("utf-8", "backslashreplace")
        rejected = [QuarantinedRow(file.name, block.first_line, reasons.FIELD_TOO_LONG, "", "", kept)]
        rows_in = 1
    return TextRows(
        part,
        rows_in,
        text.columns,
        lines[text.records],
        lambda position: text_of(int(text.records[position])),
        rejected,
    )
