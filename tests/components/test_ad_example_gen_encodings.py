"""Drops that are not UTF-8, in days' folders, with columns that nobody declared: read a chunk at a time."""

from __future__ import annotations

import gzip
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from adclick.components.ad_example_gen import reasons
from adclick.components.ad_example_gen.chunks import (
    DropFile,
    ReadOptions,
    TypedChunk,
    first_values,
    open_drop_file,
    plan_chunks,
    read_chunk,
    unknown_columns,
)
from adclick.components.ad_example_gen.settings import CsvSettings
from adclick.components.ad_example_gen.sources.source import DataFile
from adclick.schema.errors import DataRefused
from adclick.schema.feature_table import parse_feature_table

FEATURES = parse_feature_table(
    {"stadt": {"role": "categorical", "source": "Größe"}, "image": {"role": "image"}, "clicked": {"role": "label"}}
)
HEADER = "Größe,image,clicked"
LIMIT = 64


def opened(path: Path, encoding: str, folder: str = "") -> DropFile:
    file = open_drop_file(DataFile(str(path), folder), 0, CsvSettings(encoding=encoding), FEATURES)
    assert file is not None
    return file


def chunks_of(file: DropFile, encoding: str, chunk_bytes: int = 1 << 20) -> list[TypedChunk]:
    csv = CsvSettings(encoding=encoding)
    options = ReadOptions(FEATURES, csv, LIMIT, split_by_time=False)
    return [
        part for chunk in plan_chunks(file, csv, LIMIT, chunk_bytes) for part in read_chunk(chunk, options, chunk_bytes)
    ]


def rows_of(chunks: list[TypedChunk]) -> list[dict[str, Any]]:
    return pa.Table.from_batches([chunk.batch for chunk in chunks]).to_pylist()


LETTERS = {"utf-16": "aß東🙂", "utf-16-be": "aß東🙂", "utf-32": "aß東🙂", "latin-1": "aßé\x85", "shift_jis": "aソ表|能"}


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.data(), st.sampled_from(sorted(LETTERS)), st.integers(1, 40), st.booleans())
def test_whatever_the_encoding_the_rows_are_the_same(data: Any, encoding: str, chunk_bytes: int, zipped: bool) -> None:
    cell = st.text(alphabet=LETTERS[encoding] + '",\n', max_size=6)
    cells = data.draw(st.lists(cell, min_size=1, max_size=12))
    header = "Größe" if encoding != "shift_jis" else "サイズ"
    features = {"stadt": {"role": "categorical", "source": header}, "clicked": {"role": "label"}}
    text = f"{header},clicked\r\n" + "".join(
        '"' + one.replace('"', '""') + f'",{n % 2}\r\n' for n, one in enumerate(cells)
    )
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for name, known in (("a.csv", "utf-8"), ("b.csv.gz" if zipped else "b.csv", encoding)):
            content = text.encode(known)
            path = Path(folder) / name
            path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
            csv = CsvSettings(encoding=known)
            table = parse_feature_table(features)
            file = open_drop_file(DataFile(str(path)), 0, csv, table)
            assert file is not None
            options = ReadOptions(table, csv, LIMIT, split_by_time=False)
            parts = [
                part
                for chunk in plan_chunks(file, csv, LIMIT, chunk_bytes)
                for part in read_chunk(chunk, options, chunk_bytes)
            ]
            quarantined = [(row.line, row.reason) for part in parts for row in part.quarantined]
            lines = [line for part in parts for line in part.lines.tolist()]
            found.append((rows_of(parts), lines, quarantined))
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("encoding", "bad"),
    [
        ("utf-8", b"\xff"),
        ("utf-16-le", b"\x00\xdc"),  # half of a surrogate pair
        ("cp1252", b"\x81"),
        ("shift_jis", b"\xfd"),
        ("ascii", "ß".encode()),
    ],
)
def test_what_cannot_be_decoded_costs_its_row_alone(tmp_path: Path, encoding: str, bad: bytes) -> None:
    table = parse_feature_table({"city": {"role": "categorical"}, "clicked": {"role": "label"}})
    csv = CsvSettings(encoding=encoding)
    first, last = "city,clicked\nBern,1\nX".encode(encoding), "Y,0\nThun,0\n".encode(encoding)
    path = tmp_path / "a.csv"
    path.write_bytes(first + bad + last)
    file = open_drop_file(DataFile(str(path)), 0, csv, table)
    assert file is not None
    options = ReadOptions(table, csv, LIMIT, split_by_time=False)
    (part,) = (part for chunk in plan_chunks(file, csv, LIMIT, 999) for part in read_chunk(chunk, options, 999))
    assert part.batch.column(0).to_pylist() == [b"Bern", b"Thun"]
    (row,) = part.quarantined
    reason = reasons.INVALID_UTF8 if encoding == "utf-8" else reasons.UNDECODABLE
    assert (row.line, row.reason, row.field) == (3, reason, "city")
    assert row.text.startswith("X\\xff") and row.text.endswith("Y,0"), "the row can be found"


def test_memory_is_bounded_by_what_is_read_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(HEADER + "\n" + "東,,0\n" * 100_000, encoding="utf-16")
    parts = chunks_of(opened(path, "utf-16"), "utf-16", chunk_bytes=50_000)
    assert sum(part.rows_in for part in parts) == 100_000
    assert max(part.batch.num_rows for part in parts) < 10_000


@pytest.mark.parametrize(
    ("content", "declared", "message"),
    [
        ((HEADER + "\n").encode("utf-16"), "utf-8", "is UTF-16, not UTF-8\nSet `encoding: utf-16` under `csv`"),
        ((HEADER + "\n").encode("utf-16-le"), "utf-8", "encoding: utf-16-le"),
        ((HEADER + "\n").encode("utf-16-be"), "utf-8", "encoding: utf-16-be"),
        ((HEADER + "\n").encode("utf-32"), "utf-8", "encoding: utf-32"),
        ((HEADER + "\n").encode("latin-1"), "utf-8", "no header in UTF-8: Gr.xf6.xdfe,(?s:.*)csv.encoding"),
        ((HEADER + "\n").encode("utf-8-sig"), "utf-16", "byte order mark says UTF-8, but csv.encoding is utf-16"),
        (b"plain,text\n", "utf-16", "is not UTF-16"),
        ((HEADER + "\n").encode("utf-16"), "utf-32", "byte order mark says UTF-16"),
    ],
)
def test_a_wrong_declaration_is_refused_with_the_right_one(
    tmp_path: Path, content: bytes, declared: str, message: str
) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(content)
    with pytest.raises(DataRefused, match=message):
        opened(path, declared)


def test_the_mark_says_which_byte_comes_first(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"\xfe\xff" + f"{HEADER}\nx,,1\n".encode("utf-16-be"))
    for declared in ("utf-16", "utf-16-le"):
        assert [row["stadt"] for row in rows_of(chunks_of(opened(path, declared), declared))] == [b"x"]


def test_text_without_a_mark_whose_bytes_look_plain(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    table = parse_feature_table({"мм": {"role": "categorical"}, "clicked": {"role": "label"}})
    path.write_bytes("мм,clicked\nx,1\n".encode("utf-16-le"))
    file = open_drop_file(DataFile(str(path)), 0, CsvSettings(encoding="utf-16-le"), table)
    assert file is not None and file.fields == ("мм", "clicked")


@pytest.mark.parametrize(
    ("given", "name"),
    [("UTF8", "utf-8"), ("utf-8-sig", "utf-8"), ("Windows-1252", "cp1252"), ("Shift-JIS", "shift_jis")],
)
def test_encodings_go_by_any_of_their_names(given: str, name: str) -> None:
    assert CsvSettings(encoding=given).encoding == name


@pytest.mark.parametrize("given", ["no such", "hex", "rot13", "idna", "undefined", ""])
def test_what_is_no_text_encoding_is_refused(given: str) -> None:
    with pytest.raises(ValidationError, match="not a text encoding"):
        CsvSettings(encoding=given)


def test_addresses_in_a_days_folder_are_relative_to_it(tmp_path: Path) -> None:
    path = tmp_path / "15" / "a.csv"
    path.parent.mkdir()
    path.write_text(f"{HEADER}\nx,images/1.png,1\ny,/abs/2.png,0\nz,gs://b/3.png,0\nz,,0\nbad\n", encoding="utf-8")
    (part,) = chunks_of(opened(path, "utf-8", "15"), "utf-8")
    assert part.batch.column("image").to_pylist() == [b"15/images/1.png", b"/abs/2.png", b"gs://b/3.png", None]
    assert [row.file for row in part.quarantined] == ["15/a.csv"]


def test_columns_that_nobody_declared_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(
        "Größe,browser,,image,clicked,size\nx,chrome,1,,0,\nx,,2,,0,\nx,opera,3,,1,null\n", encoding="utf-8"
    )
    file = opened(path, "utf-8")
    assert unknown_columns(file, FEATURES) == ["browser", "size"]
    (part,) = chunks_of(file, "utf-8")
    assert part.filled == {"browser": 2, "size": 0}
    assert first_values(file, ["browser", "size"], CsvSettings(), LIMIT) == [["chrome", "opera"], []]
    assert part.batch.schema.names == ["stadt", "image", "clicked"]


def test_a_long_header_whose_first_quote_comes_late(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    names = [f"a_quite_long_name_of_a_column_{number}" for number in range(12)]
    path.write_text(
        ",".join([*names, '"size, px"', '"two\nlines"', HEADER]) + "\n" + "," * 14 + "x,,1\n", encoding="utf-8"
    )
    file = opened(path, "utf-8")
    assert file.fields == (*names, "size, px", "two\nlines", "Größe", "image", "clicked")
    assert file.first_line == 3
    assert [row["stadt"] for row in rows_of(chunks_of(file, "utf-8"))] == [b"x"]


def test_a_name_is_the_headers_with_its_blanks_or_without(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text('"a\r\nb", padded,padded,"say ""x""",clicked \n1,2,3,4,0\n', newline="")
    roles = ["a\r\nb", "padded", " padded", 'say "x"']
    table = parse_feature_table({**{name: {"role": "categorical"} for name in roles}, "clicked": {"role": "label"}})
    file = open_drop_file(DataFile(str(path)), 0, CsvSettings(), table)
    assert file is not None
    assert file.fields == ("a\r\nb", " padded", "padded", 'say "x"', "clicked")
    (chunk,) = plan_chunks(file, CsvSettings(), LIMIT, 1 << 20)
    (part,) = read_chunk(chunk, ReadOptions(table, CsvSettings(), LIMIT, split_by_time=False), 1 << 20)
    assert part.batch.to_pylist() == [dict(zip(file.fields, [b"1", b"2", b"3", b"4", 0], strict=True))]
