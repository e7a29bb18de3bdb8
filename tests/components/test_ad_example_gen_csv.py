"""CSV parsing: every record comes back, as the fields that were written or as rejected, however the bytes are cut."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from adclick.components.ad_example_gen import reasons
from adclick.components.ad_example_gen.sources.csv_records import (
    Block,
    Dialect,
    FieldError,
    parse_columns,
    read_blocks,
    split_fields,
)

Row = tuple[int, list[bytes]]
Bad = tuple[int, str]


def dialect(fields: int, delimiter: str = ",", max_field_bytes: int = 16_384) -> Dialect:
    return Dialect(delimiter, fields, max_field_bytes)


def parse(data: bytes, form: Dialect, chunk_bytes: int = 1 << 20) -> tuple[list[Row], list[Bad]]:
    """Rows with their lines, and the lines and reasons of what is no row."""
    rows: list[Row] = []
    bad: list[Bad] = []
    for block in blocks(data, form, chunk_bytes):
        if block.overlong:
            bad.append((block.first_line, reasons.FIELD_TOO_LONG))
            continue
        parsed = parse_columns(block.data, form, range(form.fields))
        lines = (parsed.bounds.lines + block.first_line).tolist()
        cells = zip(*(column.to_pylist() for column in parsed.columns), strict=True)
        rows += [(lines[record], list(row)) for record, row in zip(parsed.records.tolist(), cells, strict=True)]
        bad += [(lines[item.record], item.reason) for item in parsed.rejected]
    return rows, bad


def blocks(data: bytes, form: Dialect, chunk_bytes: int) -> list[Block]:
    return list(read_blocks(io.BytesIO(data).read, chunk_bytes, form))


def texts(rows: list[Row]) -> list[list[str]]:
    return [[cell.decode() for cell in row] for _, row in rows]


@st.composite
def tables(draw: st.DrawFn) -> list[list[str]]:
    width = draw(st.integers(2, 5))
    cell = st.one_of(
        st.text(alphabet='ab,";\t\r\n ', max_size=8), st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
    )
    return draw(st.lists(st.lists(cell, min_size=width, max_size=width), min_size=1, max_size=12))


@settings(deadline=None, max_examples=300)
@given(
    tables(),
    st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    st.sampled_from(["\n", "\r\n"]),
    st.sampled_from([",", "\t", ";"]),
    st.integers(1, 60),
)
@example([["\ufeff", "a"]], csv.QUOTE_MINIMAL, "\n", ",", 60)
def test_whatever_a_csv_writer_writes_comes_back(
    table: list[list[str]], quoting: int, line_end: str, delimiter: str, chunk_bytes: int
) -> None:
    if any("\r" in cell for row in table for cell in row):
        quoting = csv.QUOTE_ALL  # Python 3.11 leaves a carriage return bare where line ends are \n
    written = io.StringIO(newline="")
    csv.writer(
        written,
        quoting=quoting,  # type: ignore[arg-type]
        lineterminator=line_end,
        delimiter=delimiter,
    ).writerows(table)
    rows, bad = parse(written.getvalue().encode(), dialect(len(table[0]), delimiter), chunk_bytes)
    assert texts(rows) == table
    assert bad == []


@settings(deadline=None, max_examples=1000)
@given(st.text(alphabet='a",\n\r', max_size=80), st.integers(1, 40), st.integers(1, 3), st.integers(2, 20))
def test_any_bytes_give_the_same_rows_however_they_are_cut(
    text: str, chunk_bytes: int, fields: int, max_field_bytes: int
) -> None:
    data, form = text.encode(), dialect(fields, max_field_bytes=max_field_bytes)
    whole, cut = parse(data, form), parse(data, form, chunk_bytes)
    assert cut == whole
    kept = blocks(data, form, chunk_bytes)
    assert sum(block.length for block in kept) == len(data)


@settings(deadline=None, max_examples=500)
@given(st.text(alphabet='ab",\n\r', max_size=80), st.integers(1, 3))
def test_whole_arrays_and_single_records_are_read_alike(text: str, fields: int) -> None:
    data, form = text.encode(), dialect(fields)
    parsed = parse_columns(data, form, range(fields))
    bounds = parsed.bounds
    good, bad = {}, {}
    for record, (start, end) in enumerate(zip(bounds.starts.tolist(), bounds.ends.tolist(), strict=True)):
        try:
            cells = split_fields(data[start:end], ",")
            if len(cells) == fields:
                good[record] = cells
            else:
                bad[record] = reasons.WRONG_FIELD_COUNT
        except FieldError as error:
            bad[record] = error.reason
    parsed_rows = zip(*(column.to_pylist() for column in parsed.columns), strict=True)
    assert dict(zip(parsed.records.tolist(), map(list, parsed_rows), strict=True)) == good
    assert {item.record: item.reason for item in parsed.rejected} == bad


@pytest.mark.parametrize(
    ("text", "rows", "bad"),
    [
        ("1,2\n3,4\n", [(1, ["1", "2"]), (2, ["3", "4"])], []),
        ("1,2\r\n3,4", [(1, ["1", "2"]), (2, ["3", "4"])], []),
        ("\n1,2\n\r\n\n3,4\n\n", [(2, ["1", "2"]), (5, ["3", "4"])], []),
        ("1\n1,2,3\n4,5\n", [(3, ["4", "5"])], [(1, reasons.WRONG_FIELD_COUNT), (2, reasons.WRONG_FIELD_COUNT)]),
        ('"a\nb",1\nc,2\n', [(1, ["a\nb", "1"]), (3, ["c", "2"])], []),
        ('"a ""b"", c",1\n', [(1, ['a "b", c', "1"])], []),
        ('5" banner,1\n6" banner,2\n', [(1, ['5" banner', "1"]), (2, ['6" banner', "2"])], []),
        ('1,"open\n2,b\n3,c\n', [(2, ["2", "b"]), (3, ["3", "c"])], [(1, reasons.UNTERMINATED_QUOTE)]),
        ('1,"a"b\n2,c\n', [(2, ["2", "c"])], [(1, reasons.MALFORMED_QUOTE)]),
        ('x"y,"z\n2,c\n', [(2, ["2", "c"])], [(1, reasons.UNTERMINATED_QUOTE)]),
        ("a\rb,1\n2,c\n", [(1, ["a\rb", "1"]), (2, ["2", "c"])], []),
    ],
)
@pytest.mark.parametrize("chunk_bytes", [1, 7, 1 << 20])
def test_records(text: str, rows: list[tuple[int, list[str]]], bad: list[Bad], chunk_bytes: int) -> None:
    found, rejected = parse(text.encode(), dialect(2), chunk_bytes)
    assert [(line, [cell.decode() for cell in row]) for line, row in found] == rows
    assert rejected == bad


def test_stray_quote_costs_its_own_line_in_a_long_file() -> None:
    lines = [f"{number},x" for number in range(5_000)]
    lines[100] = '100,"x'
    lines[4_000] = '4000,x"'
    rows, bad = parse("\n".join(lines).encode(), dialect(2, max_field_bytes=1_000), 4_096)
    assert bad == [(101, reasons.UNTERMINATED_QUOTE)]
    assert len(rows) == 4_999


def test_line_longer_than_any_row_is_rejected_without_being_held() -> None:
    form = dialect(2, max_field_bytes=100)
    data = b"1,2\n" + b"x" * 1_000_000 + b"\n3,4\n" + b"y" * 1_000_000
    rows, bad = parse(data, form, 1_000)
    assert texts(rows) == [["1", "2"], ["3", "4"]]
    assert bad == [(2, reasons.FIELD_TOO_LONG), (4, reasons.FIELD_TOO_LONG)]
    assert max(len(block.data) for block in blocks(data, form, 1_000)) < 3_000


def test_wanted_fields_come_in_the_order_asked() -> None:
    parsed = parse_columns(b'1,2,3\n4,"5",6\n', dialect(3), [2, 0])
    assert [column.to_pylist() for column in parsed.columns] == [[b"3", b"6"], [b"1", b"4"]]
