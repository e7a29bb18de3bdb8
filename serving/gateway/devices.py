"""What devices have reported: their state, counted exactly once, and the reports themselves, on disk."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from adclick.serving.errors import InvalidArgumentError
from adclick.serving.gateway.device_state import DeviceState, Report, is_heartbeat

_SCHEMA = """
CREATE TABLE IF NOT EXISTS reports (
  number INTEGER PRIMARY KEY AUTOINCREMENT, device TEXT NOT NULL, key TEXT NOT NULL, type TEXT NOT NULL,
  received REAL NOT NULL, body BLOB NOT NULL, UNIQUE (device, key));
CREATE INDEX IF NOT EXISTS by_type ON reports (type, number);
CREATE TABLE IF NOT EXISTS devices (device TEXT PRIMARY KEY, state TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS totals (name TEXT PRIMARY KEY, value REAL NOT NULL) WITHOUT ROWID;
"""
#: What goes first where there is no more room.
_ORDER = "CASE type WHEN 'play' THEN 0 WHEN 'event' THEN 1 ELSE 2 END"
_AT_ONCE = 256


@dataclass
class Taken:
    """What came of reports.

    Attributes:
        taken: How many were new.
        known: How many had come before.
        refused: By key, why one will never be taken.
        counts: The same by type and outcome, for metrics.
    """

    taken: int = 0
    known: int = 0
    refused: dict[str, str] = field(default_factory=dict)
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)

    def note(self, report: Report, outcome: str, reason: str = "") -> None:
        """Notes what came of one."""
        self.taken += outcome == "taken"
        self.known += outcome == "known"
        if outcome == "refused":
            self.refused[report.key] = reason
        self.counts[report.type, outcome] += 1


class DeviceReports:
    """Reports in SQLite; a report that comes twice counts once. Used from any thread.

    Args:
        file: The database; one gateway writes it.
        total_bytes: Beyond so many bytes of reports the oldest go, proofs of play first; what is counted stays.
        most_devices: Reports of more devices are refused.

    Raises:
        InvalidArgumentError: The file cannot be opened.
    """

    def __init__(self, file: Path, total_bytes: int, most_devices: int) -> None:
        self._lock = threading.Lock()
        self._total_bytes, self._most_devices = total_bytes, most_devices
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            self._database = sqlite3.connect(str(file), isolation_level=None, check_same_thread=False, timeout=10.0)
            self._database.execute("PRAGMA journal_mode = WAL")
            self._database.execute("PRAGMA synchronous = FULL")
            self._database.executescript(_SCHEMA)
            rows = self._database.execute("SELECT device, state FROM devices").fetchall()
            self._bytes = int(
                self._database.execute("SELECT COALESCE(SUM(LENGTH(body)), 0) FROM reports").fetchone()[0]
            )
            self.dropped = int(self._total("dropped"))
        except (OSError, sqlite3.Error) as error:
            raise InvalidArgumentError(f"{file}: the devices' reports cannot be kept there: {error}") from error
        self._devices = {str(device): DeviceState.from_json(json.loads(state)) for device, state in rows}

    def take(self, owner: str | None, reports: Iterable[Report], now: float) -> Taken:
        """Takes reports, all of them or, where the disk fails, none.

        Args:
            owner: The device whose key came with them; None where no keys are asked for.
            reports: The reports.
            now: Seconds since 1970.

        Raises:
            sqlite3.Error: They could not be written.
        """
        taken = Taken()
        with self._lock:
            before_bytes, changed = self._bytes, dict[str, DeviceState]()
            self._database.execute("BEGIN IMMEDIATE")
            try:
                for report in reports:
                    self._take(owner, report, now, changed, taken)
                for device, state in changed.items():
                    self._database.execute(
                        "INSERT OR REPLACE INTO devices VALUES (?, ?)", (device, json.dumps(state.to_json()))
                    )
                self._make_room()
                self._database.execute("COMMIT")
            except BaseException:
                if self._database.in_transaction:
                    self._database.execute("ROLLBACK")
                self._bytes = before_bytes
                raise
            self._devices.update(changed)
        return taken

    def _take(
        self, owner: str | None, report: Report, now: float, changed: dict[str, DeviceState], taken: Taken
    ) -> None:
        device = report.device
        if owner is not None and device != owner:
            taken.note(report, "refused", f"the key is that of {owner}, not of {device}")
            return
        before = changed.get(device) or self._devices.get(device)
        if before is None and len(self._devices.keys() | changed.keys()) >= self._most_devices:
            taken.note(report, "refused", f"more than {self._most_devices} devices (edge.most_devices)")
            return
        state = (before or DeviceState()).copy()
        if is_heartbeat(report):
            is_new = state.take_heartbeat(report)
        else:
            added = self._database.execute(
                "INSERT OR IGNORE INTO reports (device, key, type, received, body) VALUES (?, ?, ?, ?, ?)",
                (device, report.key, report.type, now, report.body),
            )
            is_new = bool(added.rowcount)
            if is_new:
                self._bytes += len(report.body)
                state.take(report)
        state.last_seen = max(now, state.last_seen)
        changed[device] = state
        taken.note(report, "taken" if is_new else "known")

    def _make_room(self) -> None:
        dropped = 0
        while self._bytes > self._total_bytes:
            rows = self._database.execute(
                f"SELECT number, LENGTH(body) FROM reports ORDER BY {_ORDER}, number LIMIT {_AT_ONCE}"
            ).fetchall()
            for number, size in rows:
                if self._bytes <= self._total_bytes:
                    break
                self._database.execute("DELETE FROM reports WHERE number = ?", (number,))
                self._bytes -= int(size)
                dropped += 1
        if dropped:
            self._database.execute(
                "INSERT INTO totals VALUES ('dropped', ?) "
                "ON CONFLICT (name) DO UPDATE SET value = value + excluded.value",
                (dropped,),
            )
            self.dropped += dropped

    def _total(self, name: str) -> float:
        row = self._database.execute("SELECT value FROM totals WHERE name = ?", (name,)).fetchone()
        return float(row[0]) if row else 0.0

    def states(self) -> Mapping[str, DeviceState]:
        """The devices by name, as of now."""
        with self._lock:
            return dict(self._devices)

    def close(self) -> None:
        """Closes the file."""
        with self._lock:
            self._database.close()


def read_device_file(file: Path) -> dict[str, DeviceState]:
    """The devices in a gateway's file of reports, also while the gateway writes it.

    Raises:
        OSError, sqlite3.Error, ValueError: It is none.
    """
    if not file.is_file():
        raise FileNotFoundError(f"{file}: no such file")
    database = sqlite3.connect(f"{file.resolve().as_uri()}?mode=ro", uri=True, timeout=10.0)
    try:
        rows = database.execute("SELECT device, state FROM devices").fetchall()
    finally:
        database.close()
    return {str(device): DeviceState.from_json(json.loads(state)) for device, state in rows}


def read_device_folder(folder: Path) -> tuple[dict[str, DeviceState], int]:
    """The devices in a folder of reports (`adclick-edge watch --reports-folder`), and how many files are no reports.

    Raises:
        OSError: It cannot be read.
    """
    states: dict[str, DeviceState] = {}
    broken = 0
    for file in sorted(folder.glob("*/*.json")):
        try:
            report = Report.from_bytes(file.read_bytes())
        except ValueError:
            broken += 1
            continue
        state = states.setdefault(report.device, DeviceState())
        seen = file.stat().st_mtime
        if is_heartbeat(report):
            state.take_heartbeat(report)
        else:
            state.take(report)
        state.last_seen = max(state.last_seen, min(seen, time.time()))
    return states, broken
