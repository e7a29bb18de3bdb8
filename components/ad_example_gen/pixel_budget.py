"""A bound on the pixels that a process decodes at a time, whatever the images' sizes and the number of threads."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator


class PixelBudget:
    """So many pixels may be decoded at once; an image of more has all threads wait, and is decoded alone."""

    def __init__(self, pixels: int) -> None:
        self._pixels = pixels
        self._used = 0
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def taking(self, pixels: int) -> Iterator[None]:
        """Takes pixels for the length of a `with` block, once others have left enough."""
        taken = min(pixels, self._pixels)
        with self._changed:
            self._changed.wait_for(lambda: self._used + taken <= self._pixels)
            self._used += taken
        try:
            yield
        finally:
            with self._changed:
                self._used -= taken
                self._changed.notify_all()
