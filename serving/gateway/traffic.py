"""The gateway's traffic for people: by second of the last minutes and by minute of the last day, in memory.

Requests are tallied as they are answered. Once a second the tally becomes a point, so that what is kept does not grow
with the traffic.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from adclick.serving.gateway.creatives import NONE, OK

#: What asks a model; probes, metrics and the console itself are no traffic.
ENDPOINTS = frozenset({"score", "score_batch", "explain"})
LIVE_SECONDS = 300
DAY_MINUTES = 1_440

#: Bins of the time to answer, each a tenth wider than the one before, from a tenth of a millisecond to a minute.
_LEAST_SECONDS = 1e-4
_LOG_RATIO = math.log(1.1)
_BINS = 140


@dataclass(frozen=True)
class Figures:
    """What came in a stretch of time, of all versions or of one.

    Attributes:
        requests: Requests that were answered, refusals and errors included.
        refused: Those answered by a status of 4xx.
        errors: Those answered by 5xx.
        ads: Ads scored.
        images: Images given.
        unknown_images: Those that were scored as the unknown creative.
        p50: The median time to answer in seconds, within 5 %; None without a request.
        p99: Its 99th percentile.
    """

    requests: int
    refused: int
    errors: int
    ads: int
    images: int
    unknown_images: int
    p50: float | None
    p99: float | None


@dataclass(frozen=True)
class Point:
    """A stretch of time.

    Attributes:
        begin: When it began, in seconds since 1970.
        seconds: How long it was.
        total: All of it.
        versions: By version; a request that several versions answered counts for each, a refused one for none.
    """

    begin: float
    seconds: float
    total: Figures
    versions: dict[int, Figures]


@dataclass
class _Tally:
    requests: int = 0
    refused: int = 0
    errors: int = 0
    ads: int = 0
    images: int = 0
    unknown_images: int = 0
    bins: dict[int, int] = field(default_factory=dict)

    def note(self, status: int, place: int) -> None:
        self.requests += 1
        if status >= 500:
            self.errors += 1
        elif status >= 400:
            self.refused += 1
        self.bins[place] = self.bins.get(place, 0) + 1

    def add(self, other: _Tally) -> None:
        self.requests += other.requests
        self.refused += other.refused
        self.errors += other.errors
        self.ads += other.ads
        self.images += other.images
        self.unknown_images += other.unknown_images
        for place, count in other.bins.items():
            self.bins[place] = self.bins.get(place, 0) + count

    def figures(self) -> Figures:
        return Figures(
            self.requests,
            self.refused,
            self.errors,
            self.ads,
            self.images,
            self.unknown_images,
            _percentile(self.bins, self.requests, 0.5),
            _percentile(self.bins, self.requests, 0.99),
        )


class _Tallies:
    """A stretch of time that has not ended."""

    def __init__(self) -> None:
        self.total = _Tally()
        self.versions: dict[int, _Tally] = {}

    def of(self, version: int) -> _Tally:
        tally = self.versions.get(version)
        if tally is None:
            tally = self.versions[version] = _Tally()
        return tally

    def add(self, other: _Tallies) -> None:
        self.total.add(other.total)
        for version, tally in other.versions.items():
            self.of(version).add(tally)

    def point(self, begin: float, seconds: float) -> Point:
        versions = {version: tally.figures() for version, tally in sorted(self.versions.items())}
        return Point(begin, seconds, self.total.figures(), versions)


class Traffic:
    """Tallies requests. Of one event loop.

    Args:
        now: When it begins, in seconds since 1970.

    Attributes:
        since: When it began.
        live: The last `LIVE_SECONDS` points of about a second each, the oldest first.
        day: The last `DAY_MINUTES` points of about a minute each.
    """

    def __init__(self, now: float) -> None:
        self.since = now
        self.live: deque[Point] = deque(maxlen=LIVE_SECONDS)
        self.day: deque[Point] = deque(maxlen=DAY_MINUTES)
        self._second, self._minute = _Tallies(), _Tallies()
        self._second_begin = self._minute_begin = now

    def note_answer(self, endpoint: str, status: int, seconds: float, versions: Iterable[int]) -> None:
        """Tallies an answered request.

        Args:
            endpoint: The endpoint's name; others than `ENDPOINTS` are no traffic.
            status: The HTTP status.
            seconds: How long it took.
            versions: The versions that answered.
        """
        if endpoint not in ENDPOINTS:
            return
        place = _place(seconds)
        self._second.total.note(status, place)
        for version in versions:
            self._second.of(version).note(status, place)

    def note_ads(self, version: int, count: int) -> None:
        """Tallies scored ads."""
        self._second.total.ads += count
        self._second.of(version).ads += count

    def note_images(self, version: int, statuses: Sequence[str]) -> None:
        """Tallies the images of ads by what came of them."""
        given = len(statuses) - statuses.count(NONE)
        unknown = given - statuses.count(OK)
        for tally in (self._second.total, self._second.of(version)):
            tally.images += given
            tally.unknown_images += unknown

    def close_second(self, now: float) -> None:
        """Makes a point of what was tallied since the last call, and one of the minute where that has ended.

        Args:
            now: In seconds since 1970. A clock that was set back makes a point of no length, whose rates nobody tells.
        """
        self.live.append(self._second.point(self._second_begin, max(now - self._second_begin, 0.0)))
        self._minute.add(self._second)
        self._second, self._second_begin = _Tallies(), now
        if now // 60 != self._minute_begin // 60:
            self.day.append(self._minute.point(self._minute_begin, max(now - self._minute_begin, 0.0)))
            self._minute, self._minute_begin = _Tallies(), now


def _place(seconds: float) -> int:
    if seconds <= _LEAST_SECONDS:
        return 0
    return min(int(math.log(seconds / _LEAST_SECONDS) / _LOG_RATIO), _BINS - 1)


def _percentile(bins: dict[int, int], count: int, share: float) -> float | None:
    """The middle, on a logarithmic scale, of the bin in which a share of the times is reached."""
    left = math.ceil(share * count)
    for place in sorted(bins):
        left -= bins[place]
        if left <= 0:
            return _LEAST_SECONDS * math.exp((place + 0.5) * _LOG_RATIO)
    return None
