"""The forms of files that rows are read from: each gives the rows, and the refusals, that CSV gives."""

from __future__ import annotations

import bz2
import datetime as dt
import gzip
import io
import tracemalloc
import zipfile
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from adclick.components.ad_example_gen import reasons
from adclick.components.ad_example_gen.chunks import (
    ReadOptions,
    TypedChunk,
    first_values,
    open_drop_file,
    plan_chunks,
    read_chunk,
)
from adclick.components.ad_example_gen.drop_files import list_drop
from adclick.components.ad_example_gen.settings import CsvSettings
from adclick.components.ad_example_gen.sources import SOURCES, source_of
from adclick.components.ad_example_gen.sources.decompression import plain_size
from adclick.components.ad_example_gen.sources.parquet_files import as_texts
from adclick.components.ad_example_gen.sources.source import DataFile
from adclick.schema.errors import DataRefused
from adclick.schema.feature_table import parse_feature_table

FEATURES = parse_feature_table(
    {
        "id": {"role": "identifier"},
        "time": {"role": "timestamp"},
        "site": {"role": "categorical"},
        "price": {"role": "numeric"},
        "clicked": {"role": "label", "positive": ["1", "true"], "negative": ["0", "false"]},
    }
)
LIMIT = 1_000
CSV = CsvSettings()
START = dt.datetime(2026, 10, 1)


def read(path: Path, chunk_bytes: int = 1 << 20) -> list[TypedChunk]:
    file = open_drop_file(DataFile(str(path)), 0, CSV, FEATURES)
    assert file is not None
    options = ReadOptions(FEATURES, CSV, LIMIT, split_by_time=True)
    chunks = plan_chunks(file, CSV, LIMIT, chunk_bytes)
    return [part for chunk in chunks for part in read_chunk(chunk, options, chunk_bytes)]


def rows_of(chunks: list[TypedChunk]) -> list[dict[str, Any]]:
    return pa.Table.from_batches([chunk.batch for chunk in chunks]).to_pylist()


def table(rows: int) -> Any:
    numbers = list(range(rows))
    return pa.table(
        {
            "id": pa.array(numbers, pa.int64()),
            "time": pa.array([START + dt.timedelta(minutes=number) for number in numbers], pa.timestamp("us")),
            "site": pa.array([None if number % 7 == 3 else f"s{number % 5}" for number in numbers]),
            "price": pa.array([None if number % 11 == 5 else number / 4 for number in numbers], pa.float64()),
            "clicked": pa.array([number % 2 == 0 for number in numbers]),
        }
    )


def csv_text(rows: int) -> bytes:
    lines = ["id,time,site,price,clicked"]
    lines += [
        f"{n},{START + dt.timedelta(minutes=n)},{'' if n % 7 == 3 else f's{n % 5}'},"
        f"{'' if n % 11 == 5 else n / 4},{'true' if n % 2 == 0 else 'false'}"
        for n in range(rows)
    ]
    return "\n".join(lines).encode()


def zipped(**members: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return stream.getvalue()


COMPRESSED: dict[str, Callable[[bytes], bytes]] = {
    "a.csv.gz": gzip.compress,
    "a.csv.bz2": lambda data: bz2.compress(data[:200]) + bz2.compress(data[200:]),
    "a.csv.zst": lambda data: b"".join(pa.compress(part, "zstd", asbytes=True) for part in (data[:99], data[99:])),
    "a.csv.zip": lambda data: zipped(**{"logs/a.csv": data, "__MACOSX/logs/._a.csv": b"litter", "logs/.DS_Store": b""}),
}


@pytest.mark.parametrize("name", COMPRESSED)
def test_a_compressed_file_is_what_it_holds(tmp_path: Path, name: str) -> None:
    (tmp_path / "plain.csv").write_bytes(csv_text(500))
    (tmp_path / name).write_bytes(COMPRESSED[name](csv_text(500)))
    for chunk_bytes in (1_024, 1 << 20):
        assert rows_of(read(tmp_path / name, chunk_bytes)) == rows_of(read(tmp_path / "plain.csv"))
    assert plain_size(str(tmp_path / name)) > 10_000


@pytest.mark.parametrize("name", COMPRESSED)
def test_a_damaged_file_gives_the_rows_before_the_damage_and_says_so(tmp_path: Path, name: str) -> None:
    noise = np.random.default_rng(1).integers(0, 2**62, 40_000)
    text = b"id,time,site,price,clicked\n" + b"".join(
        b"%d,2026-10-01T00:00:00,%x,1,1\n" % (n, noise[n]) for n in range(len(noise))
    )
    whole = {**COMPRESSED, "a.csv.bz2": bz2.compress, "a.csv.zip": lambda data: zipped(a=data)}[name](text)
    middle = len(whole) // 2
    damaged = whole[:middle] + bytes(64) + whole[middle + 64 :] if name.endswith((".zip", ".bz2")) else whole[:middle]
    (tmp_path / name).write_bytes(damaged)
    chunks = read(tmp_path / name)
    rows = sum(chunk.batch.num_rows for chunk in chunks)
    quarantined = [row for chunk in chunks for row in chunk.quarantined]
    assert 0 <= rows < len(noise)
    assert quarantined[-1].reason == reasons.TRUNCATED_FILE and quarantined[-1].value
    assert quarantined[-1].line >= 2 + rows


def encrypted() -> bytes:
    content = bytearray(zipped(**{"a.csv": csv_text(50)}))
    for signature, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(signature) + flags] |= 1
    return bytes(content)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv.zip", zipped(**{"a.csv": b"id\n", "b.csv": b"id\n"}), "holds 2 files, 'a.csv', 'b.csv'"),
        ("a.csv.zip", zipped(), "the archive holds no file"),
        ("a.csv.zip", encrypted(), "is encrypted"),
        ("a.csv.zip", b"id,time\n1,2\n" * 9, r"cannot be decompressed: File is not a zip file"),
        ("a.csv.bz2", b"id,time\n1,2\n" * 9, "cannot be decompressed: Invalid data stream"),
        ("a.csv.zst", b"id,time\n1,2\n" * 9, "cannot be decompressed"),
        ("a.parquet", b"id,time\n1,2\n" * 9, "cannot be read as Parquet"),
        ("a.parquet", b"PAR1" + bytes(50) + b"PARE", "cannot be read as Parquet"),
    ],
)
def test_what_is_not_read_is_refused_with_its_name(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataRefused, match=rf"a\.[a-z.0-9]+: .*{message}") as refusal:
        read(tmp_path / name)
    assert refusal.value.remedy


def test_a_bomb_is_refused_in_little_memory(tmp_path: Path) -> None:
    stream = io.BytesIO()
    with bz2.open(stream, "wb") as bomb:
        bomb.write(b"id,time,site,price,clicked\n")
        for _ in range(320):
            bomb.write(b"7" * (1 << 20))
    (tmp_path / "a.csv.bz2").write_bytes(stream.getvalue())
    tracemalloc.start()
    with pytest.raises(DataRefused, match=r"a\.csv\.bz2: expands to more than 1,000 times its size"):
        read(tmp_path / "a.csv.bz2")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 64 << 20


def test_parquet_gives_the_rows_of_csv(tmp_path: Path) -> None:
    pq.write_table(table(10_000), tmp_path / "a.parquet", row_group_size=3_000)
    (tmp_path / "a.csv").write_bytes(csv_text(10_000))
    expected = rows_of(read(tmp_path / "a.csv"))
    for chunk_bytes in (1_024, 100_000, 1 << 24):
        chunks = read(tmp_path / "a.parquet", chunk_bytes)
        assert rows_of(chunks) == expected
        assert np.concatenate([chunk.lines for chunk in chunks]).tolist() == list(range(1, 10_001))
        parts = [chunk.part for chunk in chunks]
        assert parts == sorted(set(parts))
    assert len(read(tmp_path / "a.parquet", 1_024)) == 4


def test_a_bad_row_of_parquet_is_quarantined_with_its_number(tmp_path: Path) -> None:
    rows = table(50).to_pylist()
    rows[20]["id"] = None
    rows[30]["clicked"] = None
    rows[40]["site"] = "x" * (LIMIT + 1)
    pq.write_table(pa.Table.from_pylist(rows, table(1).schema), tmp_path / "a.parquet", row_group_size=9)
    chunks = read(tmp_path / "a.parquet")
    found = [row for chunk in chunks for row in chunk.quarantined]
    assert [(row.file, row.line, row.reason, row.field) for row in found] == [
        ("a.parquet", 21, reasons.MISSING_IDENTIFIER, "id"),
        ("a.parquet", 31, reasons.MISSING_LABEL, "clicked"),
        ("a.parquet", 41, reasons.FIELD_TOO_LONG, "site"),
    ]
    assert found[1].text == '{"id": "30", "time": "2026-10-01 00:30:00", "site": "s0", "price": "7.5", "clicked": ""}'
    assert sum(chunk.rows_in for chunk in chunks) == 50


def test_nested_columns_are_refused_where_they_are_read_and_shown_where_not(tmp_path: Path) -> None:
    nested = table(20).append_column("tags", pa.array([["a", "b"]] * 20))
    pq.write_table(nested, tmp_path / "a.parquet")
    file = open_drop_file(DataFile(str(tmp_path / "a.parquet")), 0, CSV, FEATURES)
    assert file is not None
    assert first_values(file, ["tags"], CSV, LIMIT) == [['["a", "b"]']]
    assert read(tmp_path / "a.parquet")[0].filled == {"tags": 20}
    pq.write_table(
        nested.drop(["site"]).rename_columns(["id", "time", "price", "clicked", "site"]), tmp_path / "b.parquet"
    )
    with pytest.raises(DataRefused, match=r"b\.parquet: the column site is nested: list<"):
        read(tmp_path / "b.parquet")


def test_absent_columns_are_named(tmp_path: Path) -> None:
    pq.write_table(table(20).drop(["site", "price"]), tmp_path / "a.parquet")
    with pytest.raises(DataRefused, match=r"has no column site, price; it has id, time, clicked"):
        read(tmp_path / "a.parquet")


def test_a_damaged_row_group_is_refused(tmp_path: Path) -> None:
    pq.write_table(table(20_000), tmp_path / "a.parquet", row_group_size=5_000)
    content = bytearray((tmp_path / "a.parquet").read_bytes())
    middle = len(content) // 2
    content[middle : middle + 4_000] = b"\xff" * 4_000
    (tmp_path / "a.parquet").write_bytes(bytes(content))
    with pytest.raises(DataRefused, match=r"a\.parquet: cannot be read as Parquet"):
        read(tmp_path / "a.parquet")


def test_an_empty_parquet_file_has_no_rows(tmp_path: Path) -> None:
    pq.write_table(table(0), tmp_path / "a.parquet")
    assert sum(chunk.rows_in for chunk in read(tmp_path / "a.parquet")) == 0


def test_forms_side_by_side_are_refused(tmp_path: Path) -> None:
    month = tmp_path / "2026-10"
    (month / "15").mkdir(parents=True)
    pq.write_table(table(5), month / "15" / "b.parquet")
    (month / "a.csv").write_bytes(csv_text(5))
    with pytest.raises(DataRefused, match=r"2026-10: holds CSV \(a\.csv\) and Parquet \(b\.parquet\) side by side"):
        list_drop(str(month))
    (month / "a.csv").unlink()
    assert [file.folder for file in list_drop(str(month)).files] == ["15"]


BERLIN = pa.timestamp("ns", "Europe/Berlin")


@pytest.mark.parametrize(
    ("values", "kind", "texts"),
    [
        ([1, None, -3], pa.int32(), ["1", "", "-3"]),
        ([2**64 - 1], pa.uint64(), ["18446744073709551615"]),
        ([True, False, None], pa.bool_(), ["true", "false", ""]),
        ([1.0, None, 2.5, 1e20, -0.0, float("nan")], pa.float64(), ["1", "", "2.5", "1e+20", "0", "nan"]),
        ([0.1, 16777216.0], pa.float32(), ["0.1", "16777216"]),
        (["a", None, ""], pa.large_string(), ["a", "", ""]),
        ([dt.datetime(2026, 10, 1, 8, 0, 1), None], pa.timestamp("ms"), ["2026-10-01 08:00:01", ""]),
        ([dt.datetime(2026, 10, 1, 8, 0, 0, 5)], pa.timestamp("us"), ["2026-10-01 08:00:00.000005"]),
        ([dt.datetime(2026, 10, 1, 8)], pa.timestamp("us", "UTC"), ["2026-10-01 08:00:00"]),
        (
            [dt.datetime(2026, 1, 1, 8), dt.datetime(2026, 7, 1, 8)],
            BERLIN,
            ["2026-01-01 09:00:00", "2026-07-01 10:00:00"],
        ),
        ([dt.datetime(9999, 12, 31)], pa.timestamp("us", "Asia/Tokyo"), ["9999-12-31 09:00:00"]),
        ([dt.date(2026, 10, 1), None], pa.date32(), ["2026-10-01", ""]),
        ([dt.time(1, 2, 3)], pa.time64("us"), ["01:02:03"]),
        ([Decimal("1.50"), Decimal("-0.01")], pa.decimal128(5, 2), ["1.50", "-0.01"]),
        ([None, None], pa.null(), ["", ""]),
        ([{"a": 1}, None], pa.struct([("a", pa.int64())]), ['{"a": 1}', ""]),
    ],
)
def test_texts_of_types(values: list[Any], kind: Any, texts: list[str]) -> None:
    assert as_texts(pa.array(values, kind)).to_pylist() == [text.encode() for text in texts]
    if not pa.types.is_nested(kind) and not pa.types.is_null(kind):
        assert as_texts(pa.array(values, kind).dictionary_encode()).to_pylist() == [text.encode() for text in texts]
    assert as_texts(pa.array([], kind)).to_pylist() == []


def test_the_endings_of_sources_are_apart() -> None:
    endings = [suffix for source in SOURCES for suffix in source.suffixes]
    assert len(endings) == len(set(endings))
    for source in SOURCES:
        assert all(source_of(f"gs://bucket/X{suffix.upper()}") is source for suffix in source.suffixes)
