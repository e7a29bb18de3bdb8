"""Columns of text to typed Arrow columns, by the role of each; whole columns at a time.

What a person wrote and a computer should read is read (spaces around a number, `+1`, `1.0` for a label); what is
neither a value nor one of the texts for a missing value makes the row bad. Text itself is kept exactly as it stands.
Of a time with an offset the clock's reading counts: 10:00+02:00 is ten o'clock. NaN is a missing number; an infinity,
and a number beyond float32, is the largest that float32 holds, of its sign.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from adclick.components.ad_example_gen import reasons
from adclick.components.ad_example_gen.sources.csv_records import Bools, Ints
from adclick.schema.feature_table import (
    Column,
    FeatureTable,
    Label,
    RawType,
    Timestamp,
    label_key,
)
from adclick.schema.roles.cells import Cells, LabelCells, NumberCells, TimeCells

Floats = npt.NDArray[np.float64]

_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_INFINITY = re.compile(r"[+-]?inf(?:inity)?", re.IGNORECASE)
_PLAIN_NUMBER = r"^-?[0-9]{1,15}(?:\.[0-9]{1,15})?$"
#: What Arrow reads, but for a day that its month does not have.
_PLAIN_TIME = r"^\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])([T ]([01]\d|2[0-3]):[0-5]\d(:[0-5]\d)?)?$"
_ISO_FRACTION_AND_ZONE = (
    r"^(\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}(?::\d{2})?)(?:[.,]\d+)?(?: ?(?:Z|z|UTC|[+-]\d{2}:?(?:\d{2})?))?$"
)
#: The largest number that float32 holds.
LARGEST_NUMBER = float(np.finfo(np.float32).max)
_EPOCH = datetime(1970, 1, 1)
#: The year 9999 ends before this second; a larger number is not in seconds.
_LAST_SECOND = 253_402_300_800


@dataclass(frozen=True)
class BadCells:
    """The rows in which a column is not what its role asks for.

    Attributes:
        reason: One of `reasons`.
        rows: bool [rows].
    """

    reason: str
    rows: Bools


@dataclass(frozen=True)
class TypedColumn:
    """A column in the type of its role.

    Attributes:
        values: float32, int64, binary, or a list of binary for a multi-valued column; null where missing or bad.
        bad: What makes rows bad, the most telling first.
    """

    values: Any
    bad: list[BadCells]


def typed_column(
    column: Column, text: Any, missing_values: Sequence[str], max_field_bytes: int, *, required: bool
) -> TypedColumn:
    """Reads a column of text by its role.

    Args:
        column: The column's declaration.
        text: `pa.BinaryArray` without nulls.
        missing_values: Texts that mean a missing value in any column.
        max_field_bytes: A longer text is bad.
        required: Whether a row without a value is bad.
    """
    bad: list[BadCells] = []
    empty = pa.scalar(b"", pa.binary())

    def reject(reason: str, rows: Bools) -> None:
        nonlocal text
        if rows.any():
            bad.append(BadCells(reason, rows))
            text = pc.if_else(pa.array(rows), empty, text)

    invalid = _invalid_utf8(text)
    if invalid is not None:
        reject(reasons.INVALID_UTF8, invalid)
    reject(reasons.FIELD_TOO_LONG, _booleans(pc.greater(pc.binary_length(text), max_field_bytes)))
    already = np.any([some.rows for some in bad], axis=0) if bad else np.zeros(len(text), np.bool_)
    texts = {value.encode() for value in (*missing_values, *column.missing)}
    cells = column.cells
    if isinstance(cells, LabelCells):
        # An empty cell may well be how a log writes that nobody clicked.
        texts = {value for value in texts if label_key(value.decode()) not in cells.values}
    missing = already | _booleans(pc.is_in(text, value_set=pa.array(sorted(texts), pa.binary())))

    values, wrong, wrong_reason = _values(cells, text, missing)
    if column.raw_type is not RawType.STRING:
        missing = missing | _booleans(pc.and_(pc.is_null(values), pa.array(~wrong)))
    if required:
        reason: dict[type, str] = {Label: reasons.MISSING_LABEL, Timestamp: reasons.MISSING_TIMESTAMP}
        bad.append(BadCells(reason.get(type(column), reasons.MISSING_IDENTIFIER), missing & ~already))
    bad.append(BadCells(wrong_reason, wrong))
    return TypedColumn(values, [some for some in bad if some.rows.any()])


def required_columns(features: FeatureTable, *, split_by_time: bool, labelled: bool = True) -> set[str]:
    """Names of the columns without whose value a row cannot be used."""
    names = {features.identifier_name}
    if labelled:
        names.add(features.label_name)
    if split_by_time:
        names.add(features.timestamp_name)
    return {name for name in names if name is not None}


def _values(cells: Cells, text: Any, missing: Bools) -> tuple[Any, Bools, str]:
    """Typed values, which rows are neither a value nor missing, and why that is bad."""
    if isinstance(cells, NumberCells):
        for pattern, replacement in cells.rewrites:
            text = pc.replace_substring_regex(text.cast(pa.string()), pattern, replacement).cast(pa.binary())
        numbers, wrong = _numbers(text, missing)
        single = np.clip(numbers, -LARGEST_NUMBER, LARGEST_NUMBER).astype(np.float32)
        return pa.array(single, mask=np.isnan(single) | wrong), wrong, reasons.UNPARSABLE_NUMBER
    if isinstance(cells, LabelCells):
        values = cells.values
        labels = _by_distinct(text, lambda value: values.get(label_key(value), np.nan))
        wrong = np.isnan(labels) & ~missing
        return _integers(labels, missing | wrong), wrong, reasons.LABEL_NOT_0_OR_1
    if isinstance(cells, TimeCells):
        seconds, wrong = _seconds(text, missing, cells.format)
        return pa.array(seconds, mask=missing | wrong), wrong, reasons.UNPARSABLE_TIME
    none = np.zeros(len(text), np.bool_)
    present = pc.if_else(pa.array(missing), pa.scalar(None, pa.binary()), text) if missing.any() else text
    return (present if cells.separator is None else _split_cells(present, cells.separator)), none, ""


def _booleans(array: Any) -> Bools:
    found: Bools = array.to_numpy(zero_copy_only=False)
    return found.astype(np.bool_, copy=False)


def _integers(numbers: Floats, absent: Bools) -> Any:
    return pa.array(np.where(absent, 0, numbers).astype(np.int64), mask=absent)


def _invalid_utf8(text: Any) -> Bools | None:
    try:
        text.cast(pa.string())
        return None
    except pa.ArrowInvalid:
        return np.array([not _is_utf8(value) for value in text.to_pylist()])


def _is_utf8(value: bytes) -> bool:
    try:
        value.decode()
        return True
    except UnicodeDecodeError:
        return False


def _by_distinct(text: Any, parse: Callable[[str], float]) -> Floats:
    """Applies `parse` once to every distinct text."""
    encoded = text.cast(pa.string()).dictionary_encode()
    parsed = np.array([parse(value) for value in encoded.dictionary.to_pylist()], np.float64)
    return parsed[encoded.indices.to_numpy(zero_copy_only=False)] if len(parsed) else np.zeros(0, np.float64)


def _number(text: str) -> float:
    text = text.strip()
    if text.lstrip("+-").lower() == "nan":
        return float("nan")
    return float(text) if _NUMBER.fullmatch(text) else float("inf")


def _infinite_number(text: str) -> float:
    """The number that a text stands for which is no finite one; NaN if it stands for none."""
    text = text.strip()
    return float(text) if _INFINITY.fullmatch(text) or _NUMBER.fullmatch(text) else float("nan")


def _numbers(text: Any, missing: Bools) -> tuple[Floats, Bools]:
    """Numbers with NaN where missing, infinities among them, and which rows hold none; `nan` is a missing number."""
    zeroed = pc.if_else(pa.array(missing), pa.scalar(b"0", pa.binary()), text) if missing.any() else text
    words = zeroed.cast(pa.string())
    try:
        numbers = _arrow_numbers(words)
    except pa.ArrowInvalid:
        numbers = _mostly(words, _PLAIN_NUMBER, "0", _arrow_numbers, _number)
    wrong = np.isinf(numbers)
    if wrong.any():
        # What is no number at all was marked so, too.
        numbers[wrong] = _by_distinct(words.filter(pa.array(wrong)), _infinite_number)
        wrong &= np.isnan(numbers)
    numbers[missing] = np.nan
    return numbers, wrong


def _seconds(text: Any, missing: Bools, form: str) -> tuple[Ints, Bools]:
    """Seconds since 1970 of the clock that wrote the text, 0 where there are none, and which rows hold no time."""
    if form in ("epoch_seconds", "epoch_milliseconds"):
        numbers, wrong = _numbers(text, missing)
        wrong |= np.isnan(numbers) & ~missing
        seconds = np.floor(numbers / (1000 if form == "epoch_milliseconds" else 1))
    else:
        absent = pc.if_else(pa.array(missing), pa.scalar(None, pa.binary()), text) if missing.any() else text
        words = absent.cast(pa.string())
        seconds = _iso8601(words) if form == "iso8601" else _strptime(words, form)
        wrong = np.isnan(seconds) & ~missing
    wrong |= (seconds < 0) | (seconds >= _LAST_SECOND)
    usable = ~(missing | wrong)
    return np.where(usable, seconds, 0).astype(np.int64), wrong


def _iso8601(words: Any) -> Floats:
    try:
        return _arrow_seconds(words)
    except pa.ArrowInvalid:
        pass
    # Arrow's parser knows neither fractions of a second nor offsets in this type; neither changes the clock's reading.
    shortened = pc.replace_substring_regex(pc.utf8_trim_whitespace(words), _ISO_FRACTION_AND_ZONE, r"\1")
    try:
        return _arrow_seconds(shortened)
    except pa.ArrowInvalid:
        pass
    shortened = pc.fill_null(shortened, "")
    try:
        return _mostly(shortened, _PLAIN_TIME, "1970-01-01", _arrow_seconds, _iso_second)
    except pa.ArrowInvalid:
        return _by_distinct(shortened, _iso_second)


def _arrow_numbers(words: Any) -> Floats:
    numbers: Floats = words.cast(pa.float64()).to_numpy(zero_copy_only=False).copy()
    return numbers


def _mostly(
    words: Any, plain: str, filler: str, convert: Callable[[Any], Floats], parse: Callable[[str], float]
) -> Floats:
    """Converts the words of a plain form all at once, and parses each distinct other one."""
    is_plain = pc.match_substring_regex(words, plain)
    found = convert(pc.if_else(is_plain, words, filler)).copy()
    others = ~_booleans(is_plain)
    found[others] = _by_distinct(words.filter(pa.array(others)), parse)
    return found


def _arrow_seconds(words: Any) -> Floats:
    stamps = words.cast(pa.timestamp("s")).cast(pa.int64())
    seconds: Floats = stamps.cast(pa.float64()).to_numpy(zero_copy_only=False)
    return seconds


def _second(moment: datetime) -> float:
    return float((moment.replace(tzinfo=None, microsecond=0) - _EPOCH).total_seconds())


def _iso_second(text: str) -> float:
    text = text.strip()
    # A bare number is read as a date by some parsers: not here.
    if "-" not in text:
        return float("nan")
    try:
        return _second(datetime.fromisoformat(text.removesuffix("UTC").rstrip()))
    except ValueError:
        return float("nan")


def _strptime(words: Any, form: str) -> Floats:
    encoded = words.dictionary_encode()
    distinct = pd.Series(encoded.dictionary.to_pylist(), dtype=object)
    seconds = np.zeros(0, np.float64)
    if "%z" in form or "%Z" in form:
        seconds = np.array([_strptime_second(text, form) for text in distinct], np.float64)
    elif len(distinct):
        stamps = pd.to_datetime(distinct, format=form, errors="coerce", exact=True)
        whole = stamps.to_numpy().astype("datetime64[s]").astype(np.int64)
        seconds = np.where(stamps.isna().to_numpy(), np.nan, whole)
    indices = encoded.indices.fill_null(len(seconds)).to_numpy(zero_copy_only=False)
    found: Floats = np.append(seconds, np.nan)[indices]
    return found


def _strptime_second(text: str, form: str) -> float:
    try:
        return _second(datetime.strptime(text, form))
    except ValueError:
        return float("nan")


def _split_cells(text: Any, separator: str) -> Any:
    """Lists of the parts of each cell, empty ones dropped; null where nothing is left."""
    cells = pc.split_pattern(text, pattern=separator)
    parts = cells.flatten()
    kept = _booleans(pc.greater(pc.binary_length(parts), 0))
    lengths = pc.fill_null(pc.list_value_length(cells), 0).to_numpy(zero_copy_only=False)
    owner = np.repeat(np.arange(len(cells)), lengths)
    return as_lists(parts.filter(pa.array(kept)), np.bincount(owner[kept], minlength=len(cells)))


def as_lists(values: Any, lengths: npt.NDArray[Any]) -> Any:
    """Lists of the given lengths over consecutive values; an empty list is null."""
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets, mask=np.append(lengths == 0, False)), values)


def as_example_column(values: Any) -> Any:
    """A typed column in the form of tfx_bsl's encoder: a list for each row, null where the value is missing."""
    if pa.types.is_list(values.type):
        return values
    if not values.null_count:
        return pa.ListArray.from_arrays(pa.array(np.arange(len(values) + 1, dtype=np.int32)), values)
    return as_lists(values.drop_null(), _booleans(values.is_valid()).astype(np.int32))
