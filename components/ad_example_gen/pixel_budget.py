"""A bound on the pixels that a process decodes at a time, whatever the images' sizes and the number of threads."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Iterator


class PixelBudget:
    """So many pixels may be decoded at once; an image of more is decoded alone. First come, first served."""

    def __init__(self, pixels: int) -> None:
        self._pixels = pixels
        self._used = 0
        self._waiting: deque[object] = deque()
        self._changed = threading.Condition()

    @property
    def waiting(self) -> int:
        """How many wait for their pixels."""
        return len(self._waiting)

    @contextlib.contextmanager
    def taking(self, pixels: int) -> Iterator[None]:
        """Takes pixels for the length of a `with` block, once others have left enough and who came before has his."""
        taken, place = min(pixels, self._pixels), object()
        with self._changed:
            self._waiting.append(place)
            try:
                self._changed.wait_for(lambda: self._waiting[0] is place and self._used + taken <= self._pixels)
                self._used += taken
            finally:
                self._waiting.remove(place)
                self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._used -= taken
                self._changed.notify_all()
