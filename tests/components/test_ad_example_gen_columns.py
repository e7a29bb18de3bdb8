"""Typing of columns: what each role takes for a value, for missing, and for bad."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from adclick.components.ad_example_gen import reasons
from adclick.components.ad_example_gen.columns import TypedColumn, typed_column
from adclick.schema.feature_table import Column

MISSING = ("", "null")
BAD = object()


def typed(declared: dict[str, Any], cells: list[bytes], *, required: bool = False) -> TypedColumn:
    column: Column = TypeAdapter(Column).validate_python(declared)
    return typed_column(column, pa.array(cells, pa.binary()), MISSING, 64, required=required)


def outcomes(declared: dict[str, Any], cells: list[bytes], *, required: bool = False) -> list[Any]:
    """Values, None where missing, and the first reason where bad."""
    found = typed(declared, cells, required=required)
    values: list[Any] = found.values.to_pylist()
    for bad in reversed(found.bad):
        for position in np.flatnonzero(bad.rows):
            values[position] = bad.reason
    return values


NUMERIC = {"role": "numeric"}
LARGEST = float(np.finfo(np.float32).max)
ISO = {"role": "timestamp"}
WORDS = {"role": "label", "positive": ["yes"], "negative": ["No", ""]}
DAY = 20_727 * 86_400  # 2026-10-01


@pytest.mark.parametrize(
    ("declared", "cell", "expected"),
    [
        (NUMERIC, b"1.5", 1.5),
        (NUMERIC, b" +1 ", 1.0),
        (NUMERIC, b"-2e3", -2000.0),
        (NUMERIC, b"", None),
        (NUMERIC, b"nan", None),
        (NUMERIC, b" inf", LARGEST),
        (NUMERIC, b"-Infinity", -LARGEST),
        (NUMERIC, b"1e39", LARGEST),
        (NUMERIC, b"-1e999", -LARGEST),
        (NUMERIC, b"++inf", reasons.UNPARSABLE_NUMBER),
        (NUMERIC, b"infinite", reasons.UNPARSABLE_NUMBER),
        (NUMERIC, b"1_000", reasons.UNPARSABLE_NUMBER),
        (NUMERIC, b"0x10", reasons.UNPARSABLE_NUMBER),
        (NUMERIC, b"1,5", reasons.UNPARSABLE_NUMBER),
        (NUMERIC, b"\xff", reasons.INVALID_UTF8),
        (NUMERIC, b"1" * 65, reasons.FIELD_TOO_LONG),
        ({"role": "numeric", "missing": ["-1"]}, b"-1", None),
        ({"role": "label"}, b"0", 0),
        ({"role": "label"}, b" 1.0", 1),
        ({"role": "label"}, b"2", reasons.LABEL_NOT_0_OR_1),
        ({"role": "label"}, b"yes", reasons.LABEL_NOT_0_OR_1),
        (WORDS, b"Yes ", 1),
        (WORDS, b"no", 0),
        (WORDS, b"", 0),
        (WORDS, b"1", reasons.LABEL_NOT_0_OR_1),
        (WORDS, b"null", None),
        ({"role": "categorical"}, b" padded ", b" padded "),
        ({"role": "categorical"}, b"null", None),
        ({"role": "categorical"}, b"\xc3\x28", reasons.INVALID_UTF8),
        ({"role": "multi_valued"}, b"a||b|", [b"a", b"b"]),
        ({"role": "multi_valued"}, b"||", None),
        ({"role": "multi_valued"}, b"", None),
        (ISO, b"2026-10-01", DAY),
        (ISO, b"2026-10-01T10:00:05", DAY + 36_005),
        (ISO, b"2026-10-01 10:00", DAY + 36_000),
        (ISO, b"2026-10-01T10:00:05.999Z", DAY + 36_005),
        (ISO, b"2026-10-01T10:00:05+02:00", DAY + 36_005),
        (ISO, b"2026-02-31", reasons.UNPARSABLE_TIME),
        (ISO, b"20261001", reasons.UNPARSABLE_TIME),
        (ISO, b"1969-12-31", reasons.UNPARSABLE_TIME),
        ({"role": "timestamp", "format": "epoch_seconds"}, b"1790000000.9", 1_790_000_000),
        ({"role": "timestamp", "format": "epoch_seconds"}, b"1790000000000", reasons.UNPARSABLE_TIME),
        ({"role": "timestamp", "format": "epoch_milliseconds"}, b"1790000000999", 1_790_000_000),
        ({"role": "timestamp", "format": "%y%m%d%H"}, b"26100110", DAY + 36_000),
        ({"role": "timestamp", "format": "%y%m%d%H"}, b"26139910", reasons.UNPARSABLE_TIME),
        ({"role": "timestamp", "format": "%d/%m/%Y %H:%M:%S %z"}, b"01/10/2026 10:00:05 +0200", DAY + 36_005),
        (ISO, b"null", None),
    ],
)
@pytest.mark.parametrize("company", [[], [b"null"], [b"?"]])
def test_values(declared: dict[str, Any], cell: bytes, expected: Any, company: list[bytes]) -> None:
    assert outcomes(declared, [cell, *company])[0] == expected


@pytest.mark.parametrize(
    ("declared", "reason"),
    [
        ({"role": "label"}, reasons.MISSING_LABEL),
        ({"role": "identifier"}, reasons.MISSING_IDENTIFIER),
        ({"role": "timestamp"}, reasons.MISSING_TIMESTAMP),
    ],
)
def test_required_values(declared: dict[str, Any], reason: str) -> None:
    assert outcomes(declared, [b"null", b"\xff"], required=True) == [reason, reasons.INVALID_UTF8]


CELLS = st.one_of(
    st.text("0123456789+-.eE nain", max_size=8),
    st.floats().map(repr),
    st.integers().map(str),
    st.datetimes().map(str),
    st.datetimes(timezones=st.timezones()).map(lambda moment: moment.isoformat()),
    st.text("0123456789-T: Z+.", max_size=20),
)


@settings(deadline=None, max_examples=300)
@given(st.sampled_from([NUMERIC, ISO, {"role": "timestamp", "format": "epoch_seconds"}]), st.lists(CELLS, max_size=6))
def test_a_cell_means_the_same_whatever_stands_beside_it(declared: dict[str, Any], cells: list[str]) -> None:
    encoded = [cell.encode() for cell in cells]
    assert outcomes(declared, encoded) == [outcomes(declared, [cell])[0] for cell in encoded]
