"""What the sampled values of one column look like."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property

import numpy as np

from adclick.models.outliers import usual_range

#: Texts that stand for a missing value in a column which otherwise holds numbers.
MISSING_WORDS = frozenset(
    {
        "-",
        "--",
        "?",
        ".",
        "n/a",
        "#n/a",
        "n.a.",
        "none",
        "nil",
        "null",
        "nan",
        "na",
        "unknown",
        "undefined",
        "missing",
        "(null)",
    }
)
_MISSING_NUMBERS = ("-1", "-9", "-99", "-999", "-9999", "-1.0")
_NUMBER = re.compile(r"[+-]?((\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|inf(inity)?)", re.IGNORECASE)
_LARGEST = float(np.finfo(np.float32).max)
_CODE = re.compile(r"0\d+")
_ISO_8601 = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d([.,]\d+)?)?(Z|[+-]\d\d(:?\d\d)?)?")
_STRPTIME = {
    "%Y-%m-%d": re.compile(r"\d{4}-\d\d-\d\d"),
    "%Y/%m/%d": re.compile(r"\d{4}/\d{1,2}/\d{1,2}"),
    "%Y/%m/%d %H:%M:%S": re.compile(r"\d{4}/\d{1,2}/\d{1,2} \d{1,2}:\d\d:\d\d"),
    "%d.%m.%Y %H:%M": re.compile(r"\d{1,2}\.\d{1,2}\.\d{4} \d{1,2}:\d\d"),
    "%d.%m.%Y %H:%M:%S": re.compile(r"\d{1,2}\.\d{1,2}\.\d{4} \d{1,2}:\d\d:\d\d"),
    "%m/%d/%Y %H:%M": re.compile(r"\d{1,2}/\d{1,2}/\d{4} \d{1,2}:\d\d"),
    "%m/%d/%Y %H:%M:%S": re.compile(r"\d{1,2}/\d{1,2}/\d{4} \d{1,2}:\d\d:\d\d"),
    "%d/%m/%Y %H:%M": re.compile(r"\d{1,2}/\d{1,2}/\d{4} \d{1,2}:\d\d"),
    "%d/%m/%Y %H:%M:%S": re.compile(r"\d{1,2}/\d{1,2}/\d{4} \d{1,2}:\d\d:\d\d"),
    "%Y%m%d%H%M%S": re.compile(r"20\d{12}"),
    "%Y%m%d%H%M": re.compile(r"20\d{10}"),
    "%Y%m%d%H": re.compile(r"20\d{8}"),
    "%Y%m%d": re.compile(r"20\d{6}"),
    "%y%m%d%H": re.compile(r"\d{8}"),
}
#: Formats whose values are plain digits, which could as well be codes.
DIGIT_FORMATS = frozenset(
    {"epoch_seconds", "epoch_milliseconds", "%Y%m%d%H%M%S", "%Y%m%d%H%M", "%Y%m%d%H", "%Y%m%d", "%y%m%d%H"}
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
#: Click logs are younger than 2001 and older than 2036, in seconds since 1970.
_EPOCH_RANGE = (978_307_200, 2_082_758_400)
_YEARS_SECONDS = 5 * 366 * 86_400


@dataclass(frozen=True)
class Profile:
    """The sampled values of one column.

    Attributes:
        source: The name in the header, or the column's number where there is none.
        cells: The text of every sampled row.
        missing_values: The texts that mean a missing value in any column.
        total_rows: About how many rows all files hold.
    """

    source: str
    cells: tuple[str, ...]
    missing_values: Collection[str]
    total_rows: int

    @cached_property
    def counts(self) -> Counter[str]:
        """How often each present value occurs."""
        missing = frozenset(self.missing_values)
        return Counter({value: count for value, count in Counter(self.cells).items() if value not in missing})

    @cached_property
    def present(self) -> int:
        """How many sampled rows hold a value."""
        return sum(self.counts.values())

    @property
    def present_share(self) -> float:
        return self.present / len(self.cells)

    @property
    def distinct(self) -> int:
        return len(self.counts)

    @property
    def top_share(self) -> float:
        """The share of the most frequent value among all sampled rows."""
        return max(self.counts.values(), default=0) / len(self.cells)

    @property
    def singletons(self) -> int:
        return sum(count == 1 for count in self.counts.values())

    @property
    def estimated_distinct(self) -> int:
        """About how many distinct values all rows hold: Chao's lower bound, from how many occur once and twice."""
        once = self.singletons
        twice = sum(count == 2 for count in self.counts.values())
        unseen = once * once / (2 * twice) if twice else once * (once - 1) / 2
        remaining = (self.total_rows - len(self.cells)) * self.present_share
        return self.distinct + round(min(unseen, max(0.0, remaining)))

    @property
    def is_constant(self) -> bool:
        return self.distinct == 0 or (self.distinct == 1 and self.present == len(self.cells))

    @property
    def is_unique(self) -> bool:
        """Whether nearly every row has a value of its own, and would in all the data."""
        return (
            self.present > 1
            and self.distinct >= 0.99 * self.present
            and self.estimated_distinct >= 0.9 * self.total_rows * self.present_share
        )

    @cached_property
    def missing_markers(self) -> tuple[str, ...]:
        """Texts that mean a missing value in this column alone, such as -1 where all others are from 0 up."""
        numbers = {value: float(value) for value in self.counts if _NUMBER.fullmatch(value)}
        words = [value for value in self.counts if value not in numbers]
        if not numbers:
            return ()
        if words and len(numbers) == 1 and next(iter(numbers)) in _MISSING_NUMBERS:
            return tuple(numbers)
        if words and (len(words) > 3 or any(word.strip().lower() not in MISSING_WORDS for word in words)):
            return ()
        negatives = [value for value, number in numbers.items() if number < 0]
        enough = 0.002 * self.present
        markers = words
        if len(negatives) == 1 and negatives[0] in _MISSING_NUMBERS and self.counts[negatives[0]] >= enough:
            markers = words + negatives
        return tuple(markers) if len(markers) < len(self.counts) else tuple(words)

    @cached_property
    def numbers(self) -> np.ndarray[tuple[int], np.dtype[np.float64]] | None:
        """The present values as float64 [present rows], missing markers left out; None where some are not numbers."""
        values = {value: count for value, count in self.counts.items() if value not in self.missing_markers}
        # As ingestion reads an infinity.
        readable = {value: min(max(float(value), -_LARGEST), _LARGEST) for value in values if _NUMBER.fullmatch(value)}
        unreadable = sum(values.values()) - sum(values[value] for value in readable)
        if not values or unreadable > 0.005 * sum(values.values()):
            return None
        if not readable:
            return None
        return np.repeat(list(readable.values()), [values[value] for value in readable])

    @property
    def number_texts(self) -> frozenset[str]:
        """The values that are numbers, missing markers left out."""
        return frozenset(v for v in self.counts if v not in self.missing_markers and _NUMBER.fullmatch(v))

    @property
    def is_integer(self) -> bool:
        return self.numbers is not None and bool(np.all(self.numbers == np.round(self.numbers)))

    @property
    def has_leading_zeros(self) -> bool:
        return any(_CODE.fullmatch(value) for value in self.counts)

    def share(self, pattern: re.Pattern[str]) -> float:
        """The share of present rows in whose value the pattern occurs."""
        return sum(count for value, count in self.counts.items() if pattern.search(value)) / max(1, self.present)

    def mean_length(self) -> float:
        return sum(len(value) * count for value, count in self.counts.items()) / max(1, self.present)

    def mean_words(self) -> float:
        return sum(len(value.split()) * count for value, count in self.counts.items()) / max(1, self.present)

    @cached_property
    def time_format(self) -> str | None:
        """The time format, as the config names it, in which nearly all values can be read."""
        if not self.counts:
            return None
        probe = [value for value, _ in self.counts.most_common(200)]
        for name in ("iso8601", "epoch_seconds", "epoch_milliseconds", *_STRPTIME):
            if _readable_share(probe, name) > 0.95 and _readable_share(list(self.counts), name) > 0.98:
                return name if name not in ("epoch_seconds", "epoch_milliseconds") or self._spans_years(name) else None
        return None

    def _spans_years(self, name: str) -> bool:
        """Whether all times lie within a few years, as those of a log do and those of random codes do not."""
        times = self.times(name)
        return bool(len(times)) and float(times.max() - times.min()) <= _YEARS_SECONDS

    def times(self, name: str) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        """The readable values in seconds since 1970, float64 [readable rows], repeated as often as they occur."""
        parsed = [(parse_time(value, name), count) for value, count in self.counts.items()]
        readable = [(time, count) for time, count in parsed if time is not None]
        return np.repeat(np.array([time for time, _ in readable], dtype=np.float64), [count for _, count in readable])


def parse_time(value: str, name: str) -> float | None:
    """Seconds since 1970 of the data's own clock, or None where the value is not of the format."""
    try:
        if name in ("epoch_seconds", "epoch_milliseconds"):
            seconds = float(value) / (1000 if name == "epoch_milliseconds" else 1)
            return seconds if _EPOCH_RANGE[0] <= seconds < _EPOCH_RANGE[1] else None
        if name == "iso8601":
            if not _ISO_8601.fullmatch(value):
                return None
            time = datetime.fromisoformat(value)
        else:
            if not _STRPTIME[name].fullmatch(value):
                return None
            time = datetime.strptime(value, name)
    except ValueError:
        return None
    return (time.replace(tzinfo=UTC) - _EPOCH) / timedelta(seconds=1)


def _readable_share(values: Sequence[str], name: str) -> float:
    return sum(parse_time(value, name) is not None for value in values) / max(1, len(values))


def skewness(numbers: np.ndarray[tuple[int], np.dtype[np.float64]]) -> float:
    """The third standardised moment, outliers set to the nearest number that is none; 0 for a constant."""
    numbers = np.clip(numbers, *usual_range(np.sort(numbers)))
    deviation = float(numbers.std())
    if deviation == 0:
        return 0.0
    return float(np.mean(((numbers - numbers.mean()) / deviation) ** 3))
