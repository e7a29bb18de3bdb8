"""The device's log: a JSON object a line, for journald and whoever collects it."""

from __future__ import annotations

import json
import sys
import threading
from datetime import datetime, timezone
from typing import Any, TextIO


class Log:
    """Writes events, from any thread.

    Args:
        stream: Where to; standard output if None, for LiteRT itself writes to standard error.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream if stream is not None else sys.stdout
        self._lock = threading.Lock()

    def write(self, event: str, **fields: Any) -> None:
        """Writes an event with its fields and the time."""
        line = json.dumps({"time": iso_time(), "event": event, **fields}, ensure_ascii=False, default=str)
        with self._lock:
            self._stream.write(line + "\n")
            self._stream.flush()


def iso_time(seconds: float | None = None) -> str:
    """An instant as ISO 8601 in UTC; now if None."""
    now = datetime.now(timezone.utc) if seconds is None else datetime.fromtimestamp(seconds, timezone.utc)
    return now.isoformat(timespec="milliseconds")
