"""Watches a screen: frame by frame a decision, from decisions alerts and proofs of play, and nobody waits for them."""

from __future__ import annotations

import base64
import json
import shlex
import sqlite3
import subprocess
import threading
import time
import uuid
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .bundle import Bundle
from .decision import Decision, Hysteresis, decide
from .delivery import Courier
from .errors import BrokenFrame, BundleRefused
from .frame import prepare, thumbnail
from .log import Log, iso_time
from .outbox import Outbox
from .recogniser import Recogniser

_FLUSH_SECONDS = 10.0
_TELL_SECONDS = 60.0
#: A longer time between two frames is not counted as shown: nobody looked.
_LONGEST_GAP_SECONDS = 5.0
_RELAY_SECONDS = 30.0
#: So many alerts are kept in memory while the disk takes none.
_MOST_UNWRITTEN = 1000


class Eye:
    """A bundle that is loaded: a picture in, a decision out.

    Attributes:
        bundle: The bundle.
        size: The side of the recogniser's input, in pixels.

    Raises:
        BundleRefused: The recogniser cannot be loaded, or its embeddings are not of the catalogue's length.
    """

    def __init__(self, bundle: Bundle, threads: int = 1) -> None:
        self.bundle = bundle
        self._recogniser = Recogniser(bundle.model, threads)
        self.size = self._recogniser.size
        if self._recogniser.dimension != bundle.catalogue.embeddings.shape[1]:
            raise BundleRefused(
                "unfit",
                f"the recogniser gives {self._recogniser.dimension} numbers, "
                f"the catalogue has {bundle.catalogue.embeddings.shape[1]}",
            )

    def look(self, image: Any) -> Decision:
        """Decides about a picture.

        Raises:
            BrokenFrame: Its pixels cannot be decoded.
        """
        # A clock that stands before the bundle was made is wrong; bookings are judged as of then.
        now = max(time.time(), self.bundle.created)
        return decide(self.bundle.catalogue, self.bundle.known, self.embed(image), now)

    def embed(self, image: Any) -> np.ndarray[Any, np.dtype[np.float32]]:
        """The embedding of a picture, float32 [D].

        Raises:
            BrokenFrame: Its pixels cannot be decoded.
        """
        return self._recogniser.embed(prepare(image, self._recogniser.size))


@dataclass(frozen=True)
class WatchOptions:
    """How a screen is watched.

    Attributes:
        device: The device's name.
        frames: So many frames in a row open or close an alert.
        hold_seconds: And for at least so long.
        thumbnails: Whether alerts hold a small picture of the screen.
        relay: A command that is run when an alert opens or closes, with the alert as JSON on its standard input and
            `ADCLICK_ALERT_STATE`, `ADCLICK_ALERT_KIND` and `ADCLICK_ALERT_KEY` in its environment; none if empty.
    """

    device: str
    frames: int = 5
    hold_seconds: float = 0.0
    thumbnails: bool = False
    relay: str = ""


class Watcher:
    """Takes frames, raises alerts, keeps proofs of play.

    Args:
        eye: Decides.
        outbox: Keeps what is to be told. An alert that was open when the runtime last ended is still open.
        options: How.
        log: Is told.
        wake: Called when a message was written.

    Attributes:
        kinds: How many frames there were of each kind.
        looked: How many frames were decided about by the bundle that runs now.
    """

    def __init__(self, eye: Eye, outbox: Outbox, options: WatchOptions, log: Log, wake: Callable[[], None]) -> None:
        self._eye, self._outbox, self._options, self._log, self._wake = eye, outbox, options, log, wake
        self._open: dict[str, Any] | None = outbox.recall("alert")
        self._hysteresis = Hysteresis(options.frames, options.hold_seconds, is_open=self._open is not None)
        self._unwritten: deque[tuple[str, bytes, Any]] = deque()
        self._plays: dict[tuple[str, int], tuple[int, float]] = {}
        self._last: tuple[str, float] | None = None
        self._threat_since: float | None = None
        self._flushed = self._told = time.monotonic()
        self.kinds: Counter[str] = Counter()
        self._milliseconds: deque[float] = deque(maxlen=1000)
        self._next_eye: Eye | None = None
        self.looked = 0
        self._recognised: tuple[int, float] = (0, 0.0)
        self._seen: tuple[float, int] = (time.monotonic(), 0)

    def status(self) -> dict[str, Any]:
        """What a heartbeat says of the watching; its counts begin with the process. From one other thread.

        Raises:
            sqlite3.Error: The outbox cannot be asked.
        """
        kinds, now = dict(self.kinds), time.monotonic()
        frames, (before, seen) = sum(kinds.values()), self._seen
        self._seen = (now, frames)
        recognised, similarity = self._recognised
        bundle = (self._next_eye or self._eye).bundle
        return {
            "bundle_version": bundle.version,
            "bundle_sha256": bundle.digest,
            "frames": kinds,
            "frames_a_second": round((frames - seen) / max(now - before, 1e-3), 2),
            "recognised": recognised,
            "similarity_sum": round(similarity, 4),
            "alert_open": self._open is not None,
            "waiting": self._outbox.waiting(),
            "dropped": self._outbox.counters(),
            **self._speed(),
        }

    def hand_over(self, eye: Eye) -> None:
        """Gives what decides from the next frame on; from any thread."""
        self.looked = 0
        self._next_eye = eye

    def run(self, frames: Iterable[Any]) -> None:
        """Watches until the frames end; what is not yet on disk then is written."""
        try:
            for frame in frames:
                self.take(frame)
        finally:
            self._keep(time.monotonic())
            self._tell()

    def take(self, frame: Any) -> Decision | None:
        """Takes a frame: a picture, or the `BrokenFrame` that stands for it. Gives what was decided."""
        begin = time.monotonic()
        if self._next_eye is not None:
            # Proofs of play name the bundle by which they were recognised.
            self._keep(begin)
            self._eye, self._next_eye = self._next_eye, None
        decision = None
        if not isinstance(frame, BrokenFrame):
            try:
                decision = self._eye.look(frame)
            except BrokenFrame as error:
                frame = error
        if decision is None:
            self.kinds["broken"] += 1
            if self.kinds["broken"] & (self.kinds["broken"] - 1) == 0:
                self._log.write("broken_frame", reason=str(frame), count=self.kinds["broken"])
            self._last = None
        else:
            self._judge(decision, frame, begin)
            if self._next_eye is None:
                self.looked += 1
            self._milliseconds.append((time.monotonic() - begin) * 1000)
        if self._unwritten or begin - self._flushed >= _FLUSH_SECONDS:
            self._keep(begin)
        if begin - self._told >= _TELL_SECONDS:
            self._tell()
        return decision

    def _judge(self, decision: Decision, frame: Any, monotonic: float) -> None:
        self.kinds[decision.kind] += 1
        if decision.creative is not None:
            self._recognised = (self._recognised[0] + 1, self._recognised[1] + decision.similarity)
        self._threat_since = (self._threat_since or time.time()) if decision.is_threat else None
        if decision.creative is not None and not decision.is_threat:
            self._count_play(decision.creative.id, monotonic)
        else:
            self._last = None
        told = self._hysteresis.take(decision, monotonic)
        if told is not None:
            self._alert(told, frame)

    def _count_play(self, creative: str, monotonic: float) -> None:
        same = self._last is not None and self._last[0] == creative
        elapsed = monotonic - self._last[1] if same and self._last is not None else 0.0
        hour = int(time.time() // 3600)
        frames, seconds = self._plays.get((creative, hour), (0, 0.0))
        shown = elapsed if elapsed <= _LONGEST_GAP_SECONDS else 0.0
        self._plays[creative, hour] = (frames + 1, seconds + shown)
        self._last = (creative, monotonic)

    def _alert(self, decision: Decision, frame: Any) -> None:
        now = iso_time()
        if decision.is_threat:
            creative = decision.creative
            alert: dict[str, Any] = {
                "id": uuid.uuid4().hex,
                "revision": 1,
                "state": "open",
                "device": self._options.device,
                "kind": decision.kind,
                "creative": creative.id if creative else None,
                "name": creative.name if creative else None,
                "similarity": round(decision.similarity, 4),
                "threshold": self._eye.bundle.known,
                "first_time": iso_time(self._threat_since),
                "time": now,
                "bundle_version": self._eye.bundle.version,
            }
            self._open = alert
            if self._options.thumbnails:
                alert = {**alert, "thumbnail_jpeg": base64.b64encode(thumbnail(frame)).decode()}
        else:
            alert = {**(self._open or {}), "revision": 2, "state": "closed", "time": now}
            self._open = None
        alert["key"] = f"{alert['id']}-{alert['revision']}"
        body = json.dumps(alert, ensure_ascii=False).encode()
        self._unwritten.append((alert["key"], body, self._open))
        self._keep(time.monotonic())
        # Told when it is on disk: what the log says was raised is never lost.
        fields = {name: value for name, value in alert.items() if name not in ("time", "thumbnail_jpeg")}
        self._log.write("alert", **fields, kept=not self._unwritten)
        if self._options.relay:
            threading.Thread(target=self._relay, args=(alert, body), daemon=True).start()

    def _keep(self, monotonic: float) -> None:
        """Writes what is in memory to disk; a disk that is full is told, and tried again with the next frame."""
        self._flushed = monotonic
        try:
            while self._unwritten:
                self._outbox.add_alert(*self._unwritten[0])
                self._unwritten.popleft()
            fields = {"device": self._options.device, "bundle_version": self._eye.bundle.version}
            self._outbox.add_plays(
                [(creative, hour, fields, *counts) for (creative, hour), counts in self._plays.items()]
            )
            self._plays.clear()
            self._outbox.close_hours(int(time.time() // 3600))
        except sqlite3.Error as error:
            if len(self._unwritten) > _MOST_UNWRITTEN:
                lost = self._unwritten.popleft()
                self._log.write("alert_lost", key=lost[0], body=lost[1].decode())
            self._log.write("not_written", reason=str(error), alerts=len(self._unwritten), plays=len(self._plays))
            return
        self._wake()

    def _relay(self, alert: dict[str, Any], body: bytes) -> None:
        import os

        environment = {
            **os.environ,
            "ADCLICK_ALERT_STATE": alert["state"],
            "ADCLICK_ALERT_KIND": alert["kind"],
            "ADCLICK_ALERT_KEY": alert["key"],
        }
        try:
            done = subprocess.run(
                shlex.split(self._options.relay),
                input=body,
                env=environment,
                timeout=_RELAY_SECONDS,
                capture_output=True,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            self._log.write("relay_failed", key=alert["key"], reason=str(error))
            return
        if done.returncode:
            reason = done.stderr[-500:].decode(errors="replace")
            self._log.write("relay_failed", key=alert["key"], code=done.returncode, reason=reason)

    def _tell(self) -> None:
        self._told = time.monotonic()
        fields: dict[str, Any] = {**self._speed()}
        try:
            fields.update(waiting=self._outbox.waiting(), **self._outbox.counters())
        except sqlite3.Error as error:
            fields["outbox"] = str(error)
        self._log.write("watching", frames=dict(self.kinds), bundle_version=self._eye.bundle.version, **fields)

    def _speed(self) -> dict[str, float]:
        """From frame to decision, of the last thousand frames."""
        times = sorted(self._milliseconds.copy())
        if not times:
            return {}
        return {
            "p50_ms": round(times[len(times) // 2], 2),
            "p99_ms": round(times[min(len(times) - 1, len(times) * 99 // 100)], 2),
        }


def start_couriers(outbox: Outbox, receivers: Iterable[Any], log: Log) -> list[Courier]:
    """A courier for each receiver."""
    return [Courier(outbox, receiver, log) for receiver in receivers]


def outbox_path(state: Path) -> Path:
    """Where a device keeps its outbox."""
    return state / "outbox.db"
