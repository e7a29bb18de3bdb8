"""Clicks from CSV files, and what they say of predictions.

A click names its impression, or the request and which of its ads. Names are kept as 64-bit hashes: 17 bytes a click,
whatever the size of the prediction log, which is read past them.
"""

from __future__ import annotations

import codecs
import io
import math
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.csv as pa_csv

from adclick.components.ad_example_gen.sources.text_encoding import UTF_8, marked_encoding
from adclick.components.ad_example_gen.sources.text_streams import open_text
from adclick.schema.errors import ConfigError, DataRefused
from adclick.schema.times import seconds_since_1970
from adclick.serving.gateway.prediction_log import AD_INDEX, CONTEXT_INDEX, IMPRESSION_ID, REQUEST_ID

Floats = npt.NDArray[np.float64]
Keys = npt.NDArray[np.uint64]

CLICK_TIME = "click_time"
#: Clocks of two machines differ; a click so much before its prediction still belongs to it.
_CLOCK_SECONDS = 60.0
_BLOCK_BYTES = 1 << 24
_BEGINNING_BYTES = 64
#: What a click came to; the larger one counts where several predictions share its name.
_UNMATCHED, _EARLY, _LATE, _IN_TIME = range(4)


@dataclass
class Named:
    """Impressions that CSV files name, and when.

    Attributes:
        keys: Hashes of their names, ascending and distinct.
        times: For each, the earliest time that a row gives, in seconds since 1970; NaN where rows give none.
        newest: The latest time of all rows; minus infinity if there is none.
        rows: How many rows were read.
        unreadable: How many of them name nothing, or no time where one is needed.
        duplicates: How many of them name an impression again.
        by: By which of `impression_id` and `request_id` rows name impressions.
    """

    keys: Keys
    times: Floats
    newest: float
    rows: int = 0
    unreadable: int = 0
    duplicates: int = 0
    by: set[str] = field(default_factory=set)

    def find(self, keys: Keys) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        """The places of these keys, and whether each is among the named ones at all."""
        places = np.minimum(np.searchsorted(self.keys, keys), max(len(self.keys) - 1, 0))
        is_named = self.keys[places] == keys if len(self.keys) else np.zeros(len(keys), bool)
        return places, is_named


def impression_keys(impression_ids: Sequence[bytes | str]) -> Keys:
    """Hashes of impressions named by their own identifier."""
    return _hashed([f"i {_text(one)}" for one in impression_ids])


def request_keys(request_ids: Sequence[bytes | str], contexts: Sequence[int | str], ads: Sequence[int | str]) -> Keys:
    """Hashes of impressions named by request, context and ad."""
    return _hashed([f"r {c} {a} {_text(r)}" for r, c, a in zip(request_ids, contexts, ads, strict=True)])


def _text(value: bytes | str) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def _hashed(texts: list[str]) -> Keys:
    return np.asarray(pd.util.hash_array(np.array(texts, object), categorize=False), np.uint64)


def read_named(
    files: Sequence[Path],
    *,
    identifier: str | None,
    timed: bool,
    since: float,
    until: float,
    max_unreadable_share: float,
    encoding: str = UTF_8,
) -> Named:
    """Reads which impressions CSV files name.

    The columns are `impression_id` (or the identifier's own name), or `request_id`, `ad_index` and, for requests of
    many contexts, `context_index`; and `click_time`, in ISO 8601 (UTC unless it says otherwise) or seconds since 1970.

    Args:
        files: CSV files with a header, compressed where their names say so.
        identifier: The config's column that names an impression.
        timed: Whether each row must give a `click_time`.
        since: Earlier rows are not kept, seconds since 1970.
        until: Nor later ones.
        max_unreadable_share: With a larger share of unreadable rows, the files are refused.
        encoding: What files without a byte order mark are encoded in, as `csv.encoding` names it.

    Raises:
        ConfigError: A file has no header, or not the columns.
        DataRefused: Too many rows cannot be read; names the first.
    """
    found: list[tuple[Keys, Floats]] = []
    rows, unreadable, newest = 0, 0, -np.inf
    first_unreadable = ""
    by: set[str] = set()
    for file in files:
        line = 2
        skipped: list[str] = []
        for table in _tables(file, skipped, encoding):
            by.add(IMPRESSION_ID if _name_of_impression(table, identifier) else REQUEST_ID)
            keys, is_sound = _keys(table, identifier, file)
            times = np.full(len(table), np.nan)
            if timed:
                times = _times(table, file)
                is_sound &= np.isfinite(times)
            rows += len(table)
            unreadable += int((~is_sound).sum())
            if not is_sound.all() and not first_unreadable:
                row = int(np.flatnonzero(~is_sound)[0])
                values = ", ".join(f"{name} {value!r}" for name, (value,) in table.slice(row, 1).to_pydict().items())
                first_unreadable = f"{file}, line {line + row}: {values}"
            line += len(table)
            if timed and is_sound.any():
                newest = max(newest, float(times[is_sound].max()))
                is_sound &= (times >= since) & (times <= until)
            found.append((keys[is_sound], times[is_sound]))
        rows += len(skipped)
        unreadable += len(skipped)
        if skipped and not first_unreadable:
            first_unreadable = f"{file}: {skipped[0]}"
    if unreadable > max_unreadable_share * rows:
        needed = "a name and a click_time" if timed else "a name"
        raise DataRefused(
            f"{unreadable:,} of {rows:,} rows have not {needed}; the first: {first_unreadable}",
            "Correct the files, or raise ingestion.max_quarantine_share.",
        )
    keys = np.concatenate([np.zeros(0, np.uint64), *(part[0] for part in found)])
    times = np.concatenate([np.zeros(0), *(part[1] for part in found)])
    order = np.lexsort((times, keys))
    distinct, first = np.unique(keys[order], return_index=True)
    return Named(distinct, times[order][first], newest, rows, unreadable, len(keys) - len(distinct), by)


class _Decoded(io.RawIOBase):
    """A file as UTF-8, what cannot be decoded as U+FFFD; its byte order mark goes before what is declared."""

    def __init__(self, file: Path, declared: str) -> None:
        super().__init__()
        self._raw, self._stream = open_text(str(file), UTF_8)
        self._beginning = self._stream.read(_BEGINNING_BYTES)
        encoding = marked_encoding(self._beginning) or declared
        if encoding.startswith(("utf-16", "utf-32")) and b"\0" not in self._beginning:
            encoding = UTF_8  # clicks need not be written as impressions are
        self._decoder = codecs.getincrementaldecoder(encoding)("replace")
        self._pending = b""
        self._is_start = True

    @property
    def damage(self) -> str:
        return self._stream.damage

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._pending:
            data = self._beginning or self._stream.read(_BLOCK_BYTES)
            self._beginning = b""
            text = self._decoder.decode(data, not data)
            if self._is_start and text:
                text, self._is_start = text.removeprefix("\ufeff"), False
            self._pending = text.encode("utf-8", "replace")
            if not data:
                break
        count = min(len(buffer), len(self._pending))
        buffer[:count], self._pending = self._pending[:count], self._pending[count:]
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


def _tables(file: Path, skipped: list[str], encoding: str) -> Iterator[pa.Table]:
    """Reads a file as tables of texts; rows of another number of fields are left out and noted in `skipped`."""

    def skip(row: Any) -> str:
        skipped.append(f"{row.actual_columns} fields instead of {row.expected_columns}: {row.text!r}")
        return "skip"

    # By a file, which Arrow reads by itself: its reader, let go of before the end, waits for a read that has begun, and
    # one of Python's files would wait for Python.
    with tempfile.TemporaryDirectory(prefix="adclick-clicks-") as folder:
        copy = os.path.join(folder, "decoded.csv")
        try:
            with _Decoded(file, encoding) as decoded, open(copy, "wb") as stream:
                shutil.copyfileobj(decoded, stream, _BLOCK_BYTES)
            if decoded.damage:
                raise ConfigError(f"{file}: cannot be decompressed: {decoded.damage}", "Deliver the file again.")
            lenient = pa_csv.ParseOptions(invalid_row_handler=lambda row: "skip")
            with pa_csv.open_csv(copy, parse_options=lenient) as header:
                names = header.schema.names
            reader = pa_csv.open_csv(
                copy,
                read_options=pa_csv.ReadOptions(block_size=_BLOCK_BYTES, use_threads=False),
                parse_options=pa_csv.ParseOptions(invalid_row_handler=skip),
                convert_options=pa_csv.ConvertOptions(column_types={name: pa.string() for name in names}),
            )
            with reader:
                for batch in reader:
                    yield pa.Table.from_batches([batch])
        except (pa.ArrowInvalid, OSError) as error:
            raise ConfigError(f"{file}: cannot be read as CSV: {error}") from None


def _name_of_impression(table: pa.Table, identifier: str | None) -> str | None:
    return next((name for name in (IMPRESSION_ID, identifier) if name in table.column_names), None)


def _keys(table: pa.Table, identifier: str | None, file: Path) -> tuple[Keys, npt.NDArray[np.bool_]]:
    names = _name_of_impression(table, identifier)
    if names is not None:
        given = table[names].to_pylist()
        return impression_keys([one or "" for one in given]), np.array([_is_name(one) for one in given], bool)
    if REQUEST_ID not in table.column_names or AD_INDEX not in table.column_names:
        raise ConfigError(
            f"{file}: has neither a column {IMPRESSION_ID} nor {REQUEST_ID} and {AD_INDEX}; it has "
            f"{', '.join(table.column_names)}",
            "Each row must name an impression: by its own identifier, or by the request and the ad's place in it.",
        )
    requests, ads = table[REQUEST_ID].to_pylist(), table[AD_INDEX].to_pylist()
    contexts = table[CONTEXT_INDEX].to_pylist() if CONTEXT_INDEX in table.column_names else ["0"] * len(ads)
    is_sound = [
        _is_name(r) and (a or "").isdecimal() and (c or "0").isdecimal()
        for r, a, c in zip(requests, ads, contexts, strict=True)
    ]
    keys = request_keys(
        [one or "" for one in requests],
        [int(one) if sound and one else 0 for one, sound in zip(contexts, is_sound, strict=True)],
        [int(one) if sound else 0 for one, sound in zip(ads, is_sound, strict=True)],
    )
    return keys, np.array(is_sound, bool)


def _is_name(text: str | None) -> bool:
    return bool(text) and "\ufffd" not in str(text)


def _times(table: pa.Table, file: Path) -> Floats:
    if CLICK_TIME not in table.column_names:
        raise ConfigError(
            f"{file}: has no column {CLICK_TIME}; it has {', '.join(table.column_names)}",
            "Each click needs its time, in ISO 8601 or seconds since 1970.",
        )
    return np.array([_seconds(text) for text in table[CLICK_TIME].to_pylist()], np.float64)


def _seconds(text: str | None) -> float:
    """Seconds since 1970 from a number or an ISO 8601 moment; NaN from anything else."""
    try:
        return float(text or "nan")
    except ValueError:
        pass
    try:
        return seconds_since_1970(text or "")
    except ValueError:
        return math.nan


@dataclass
class ClickCounts:
    """What became of the clicks.

    Attributes:
        rows: Rows read.
        unreadable: Rows without a name or a time.
        duplicates: Rows that name an impression again.
        outside: Rows whose time is no prediction's window.
        in_time: Clicks that found their prediction within its window.
        late: Clicks that came after it.
        early: Clicks that came before the prediction.
        unmatched: Clicks that found no prediction.
    """

    rows: int = 0
    unreadable: int = 0
    duplicates: int = 0
    outside: int = 0
    in_time: int = 0
    late: int = 0
    early: int = 0
    unmatched: int = 0


class ClickJoin:
    """Tells predictions whether they were clicked.

    Args:
        clicks: The clicks.
        window: How long after a prediction its click may come, in seconds.
        complete_until: All clicks up to this moment are there, in seconds since 1970.
    """

    def __init__(self, clicks: Named, window: float, complete_until: float) -> None:
        self.clicks = clicks
        self.complete_until = complete_until
        self._window = window
        self._outcome = np.full(len(clicks.keys), _UNMATCHED, np.uint8)

    @property
    def by(self) -> set[str]:
        """By what clicks name impressions."""
        return self.clicks.by

    def label(
        self, keys_by_name: Sequence[Keys], logged_at: Floats
    ) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
        """Joins a batch of predictions.

        Args:
            keys_by_name: The predictions' hashes, by each way of naming them [rows].
            logged_at: When they were made, in seconds since 1970 [rows].

        Returns:
            Whether each was clicked within its window, and whether its window has passed [rows].
        """
        is_clicked = np.zeros(len(logged_at), bool)
        for keys in keys_by_name:
            places, is_named = self.clicks.find(keys)
            if not is_named.any():
                continue
            delay = self.clicks.times[places[is_named]] - logged_at[is_named]
            outcome = np.where(delay > self._window, _LATE, np.where(delay < -_CLOCK_SECONDS, _EARLY, _IN_TIME))
            np.maximum.at(self._outcome, places[is_named], outcome.astype(np.uint8))
            is_clicked[np.flatnonzero(is_named)[outcome == _IN_TIME]] = True
        return is_clicked, logged_at + self._window <= self.complete_until

    def counts(self) -> ClickCounts:
        """What became of the clicks, once all predictions were joined."""
        clicks = self.clicks
        by_outcome = np.bincount(self._outcome, minlength=4).tolist()
        kept = len(clicks.keys) + clicks.duplicates
        return ClickCounts(
            rows=clicks.rows,
            unreadable=clicks.unreadable,
            duplicates=clicks.duplicates,
            outside=clicks.rows - clicks.unreadable - kept,
            in_time=by_outcome[_IN_TIME],
            late=by_outcome[_LATE],
            early=by_outcome[_EARLY],
            unmatched=by_outcome[_UNMATCHED],
        )
