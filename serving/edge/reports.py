"""What a device reports of itself: heartbeats, whose counts only grow, and what came of bundles."""

from __future__ import annotations

import json
import shutil
import sqlite3
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from . import RUNTIME_VERSION
from .log import Log, iso_time
from .outbox import Outbox

_THERMAL = Path("/sys/class/thermal")


class Reporter:
    """Writes reports into the outbox, a heartbeat every so many seconds by a thread of its own.

    So a device whose source of frames is silent says so.

    Args:
        outbox: Where they wait.
        device: The device's name.
        status: What a heartbeat says besides, see `Watcher.status`.
        seconds: From one heartbeat to the next.
        log: Is told.
        wake: Called when one was written.
    """

    def __init__(
        self,
        outbox: Outbox,
        device: str,
        status: Callable[[], Mapping[str, Any]],
        seconds: float,
        log: Log,
        wake: Callable[[], None],
    ) -> None:
        self._outbox, self._device, self._status = outbox, device, status
        self._seconds, self._log, self._wake = seconds, log, wake
        #: Counts begin at zero with each start; its name says which counts go on from which.
        self._boot = uuid.uuid4().hex
        self._sequence = 0
        self._begin = time.monotonic()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="reporter", daemon=True)

    def start(self) -> None:
        """Begins with the heartbeats."""
        self._thread.start()

    def stop(self, seconds: float) -> None:
        """Ends with a last heartbeat."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join(seconds)
        self._beat()

    def event(self, event: str, **fields: Any) -> None:
        """Logs an event, and reports it if it is one of a bundle, or the refusal of a channel's file."""
        self._log.write(event, **fields)
        if not event.startswith("bundle_") and event != "channel_refused":
            return
        key = uuid.uuid4().hex
        body = {"key": key, "device": self._device, "time": iso_time(), "event": event, **fields}
        try:
            self._outbox.add_event(key, json.dumps(body, ensure_ascii=False, default=str).encode())
        except sqlite3.Error as error:
            self._log.write("not_written", reason=str(error), event_lost=event)
            return
        self._wake()

    def _run(self) -> None:
        while True:
            self._beat()
            if self._stopped.wait(self._seconds):
                return

    def _beat(self) -> None:
        self._sequence += 1
        body = {
            "key": f"{self._boot}-{self._sequence}",
            "device": self._device,
            "boot": self._boot,
            "sequence": self._sequence,
            "time": iso_time(),
            "uptime_seconds": round(time.monotonic() - self._begin, 1),
            "runtime": RUNTIME_VERSION,
            "temperature_celsius": temperature(),
            "memory_bytes": memory_bytes(),
        }
        try:
            body.update(self._status())
            self._outbox.put_heartbeat(str(body["key"]), json.dumps(body, ensure_ascii=False).encode())
        except Exception as error:  # this must outlive whatever one beat meets, such as a full disk
            self._log.write("no_heartbeat", reason=f"{type(error).__name__}: {error}")
            return
        self._wake()


def temperature(folder: Path = _THERMAL) -> float | None:
    """The hottest of the system's sensors in degrees Celsius; None if there is none (Linux, sysfs-class-thermal)."""
    found = []
    for path in folder.glob("thermal_zone*/temp"):
        try:
            found.append(int(path.read_text()) / 1000)
        except (OSError, ValueError):
            continue  # a sensor that is asleep answers with an error
    return max(found, default=None)


def memory_bytes() -> int | None:
    """The resident memory of this process; None where the system does not say (Linux, proc(5))."""
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return None


def disk_free_bytes(folder: Path) -> int:
    """What is free on a folder's disk."""
    return shutil.disk_usage(folder).free
