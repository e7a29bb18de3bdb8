"""How far the reading of a month's images is: for who looks on, and once a minute for the log."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator

_LOG_SECONDS = 60.0
_TELL_SECONDS = 0.5
#: Before that a rate says little.
_LEAST_SECONDS = 2.0
_MINUTE, _HOUR = 60, 3_600

#: Who looks on, in this process.
_listeners: list[Callable[[str], None]] = []


@contextlib.contextmanager
def image_progress_to(tell: Callable[[str], None]) -> Iterator[None]:
    """Has the progress of all reading in this process told, in words, for the length of a `with` block."""
    _listeners.append(tell)
    try:
        yield
    finally:
        _listeners.remove(tell)


def describe_progress(images: int, total: int, seconds: float) -> str:
    """Images read, of about how many, how many a second, and the time left.

    Args:
        images: Read so far.
        total: How many there will be, as far as that is known.
        seconds: Since the first.
    """
    text = f"{images:,} of about {max(total, images):,} images"
    if not images or seconds < _LEAST_SECONDS:
        return text
    rate = images / seconds
    return f"{text}, {rate:,.0f}/s, {_duration(max(total - images, 0) / rate)} left"


def _duration(seconds: float) -> str:
    if seconds < _MINUTE:
        return f"{seconds:.0f} s"
    if seconds < _HOUR:
        return f"{seconds / _MINUTE:.0f} min"
    return f"{seconds / _HOUR:.1f} h"


class ImageProgress:
    """Counts the images of a month as they are read, a partition after the other."""

    def __init__(self, month: str, partitions: int) -> None:
        """Begins to count.

        Args:
            month: What is read, for the log.
            partitions: Into how many parts of about one size its images are divided.
        """
        self._month = month
        self._partitions = partitions
        self._begun = 0
        self._expected = 0
        self._images = 0
        self._start = self._told = self._logged = time.monotonic()

    def begin(self, images: int) -> None:
        """Begins a partition of so many images."""
        self._begun += 1
        self._expected += images

    def add(self) -> None:
        """Counts an image that is read."""
        self._images += 1
        now = time.monotonic()
        if now - self._told >= _TELL_SECONDS:
            self._told = now
            for tell in _listeners:
                tell(self._describe(now))
        if now - self._logged >= _LOG_SECONDS:
            self._logged = now
            logging.getLogger("adclick").info("%s: %s", self._month, self._describe(now))

    def _describe(self, now: float) -> str:
        total = self._expected * max(self._partitions, self._begun) // max(self._begun, 1)
        return describe_progress(self._images, total, now - self._start)
