"""What waits to be sent: alerts and proofs of play, in SQLite, through crashes and weeks without a network.

A message is written before anybody is told, and goes when every receiver has taken it; so each receiver gets it at
least once, and its key makes twice harmless. Its size is bounded: proofs of play go first, the oldest of them first,
alerts only where there is nothing else; what went is counted. A file beside it keeps room, so that a runtime that
starts on a full disk watches all the same.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ALERT, EVENT, HEARTBEAT, PLAY = "alert", "event", "heartbeat", "play"
#: In this order messages are sent, and from its end they are dropped.
_ORDER = "CASE kind WHEN 'alert' THEN 0 WHEN 'event' THEN 1 WHEN 'heartbeat' THEN 2 ELSE 3 END"

#: Kept on disk for when it is full, and not where that would fill it.
_RESERVE_BYTES = 512 << 10
_LEAST_FREE_BYTES = 4 * _RESERVE_BYTES

_SCHEMA = """
CREATE TABLE IF NOT EXISTS messages (
  number INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT UNIQUE NOT NULL, kind TEXT NOT NULL, body BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS deliveries (
  receiver TEXT NOT NULL, number INTEGER NOT NULL REFERENCES messages ON DELETE CASCADE,
  PRIMARY KEY (receiver, number)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS by_number ON deliveries (number);
CREATE TABLE IF NOT EXISTS plays (
  creative TEXT NOT NULL, hour INTEGER NOT NULL, key TEXT NOT NULL, body TEXT NOT NULL,
  frames INTEGER NOT NULL, seconds REAL NOT NULL, PRIMARY KEY (creative, hour)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS state (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""


@dataclass(frozen=True)
class Message:
    """What is sent.

    Attributes:
        number: Its place in the order in which messages were written.
        key: Its idempotency key.
        kind: `alert`, `event` (what came of a bundle), `heartbeat` or `play`.
        body: JSON.
    """

    number: int
    key: str
    kind: str
    body: bytes


class Outbox:
    """Messages on disk; used from any thread.

    Args:
        path: The database; a damaged one is moved aside, and `moved_aside` names where it went.
        receivers: Who gets each message. What waits for others, who are no longer named, is forgotten.
        maximum_bytes: The most that the bodies of waiting messages take together.
        reporters: Those of the receivers who also get events and heartbeats.

    Raises:
        OSError, sqlite3.Error: The file cannot be made.
    """

    def __init__(
        self, path: Path, receivers: Sequence[str], maximum_bytes: int = 32 << 20, reporters: Sequence[str] = ()
    ) -> None:
        self._receivers = tuple(receivers)
        self._reporters = tuple(reporters)
        self._maximum_bytes = maximum_bytes
        self._lock = threading.RLock()
        self._bytes = 0
        self.moved_aside: Path | None = None
        self._reserve = path.with_name(f"{path.name}.reserve")
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._begin(path)
        except sqlite3.OperationalError:
            if not self._reserve.exists():
                raise
            # The disk is full: this is what the reserve is for.
            self._reserve.unlink()
            self._begin(path)
        else:
            self._keep_reserve()

    def _begin(self, path: Path) -> None:
        try:
            self._database = _open(path)
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError:
            self.moved_aside = path.with_name(f"{path.name}.damaged-{uuid.uuid4().hex[:8]}")
            os.replace(path, self.moved_aside)
            for rest in (f"{path}-wal", f"{path}-shm"):
                if os.path.exists(rest):
                    os.replace(rest, f"{self.moved_aside}{rest[-4:]}")
            self._database = _open(path)
        try:
            with self._transaction() as database:
                marks = ",".join("?" * len(self._receivers))
                database.execute(f"DELETE FROM deliveries WHERE receiver NOT IN ({marks})", self._receivers)
                database.execute("DELETE FROM messages WHERE number NOT IN (SELECT number FROM deliveries)")
        except BaseException:
            self._database.close()
            raise
        self._bytes = self._measured()

    def _keep_reserve(self) -> None:
        """Keeps room on the disk by which the outbox opens and takes alerts when all else of it is full."""
        try:
            if self._reserve.exists() or shutil.disk_usage(self._reserve.parent).free < _LEAST_FREE_BYTES:
                return
            with open(self._reserve, "wb") as file:
                os.posix_fallocate(file.fileno(), 0, _RESERVE_BYTES)
        except OSError:
            # Somebody else took the room meanwhile; or the file system cannot keep any.
            with suppress(OSError):
                self._reserve.unlink()

    def add_alert(self, key: str, body: bytes, state: Any) -> None:
        """Writes an alert, and what the watcher must remember of it, both or neither.

        Args:
            key: Its idempotency key; a second message of the same key changes nothing.
            body: JSON.
            state: As `remember("alert", …)`.

        Raises:
            sqlite3.Error: It could not be written, as where the disk is full; try again.
        """
        with self._transaction() as database:
            database.execute("INSERT OR REPLACE INTO state VALUES ('alert', ?)", (json.dumps(state),))
            self._add(database, key, ALERT, body)

    def add_event(self, key: str, body: bytes) -> None:
        """Writes an event for the reporters.

        Raises:
            sqlite3.Error: It could not be written.
        """
        with self._transaction() as database:
            self._add(database, key, EVENT, body)

    def put_heartbeat(self, key: str, body: bytes) -> None:
        """Writes a heartbeat for the reporters, in the place of one that waits: its counts go on from those.

        Raises:
            sqlite3.Error: It could not be written.
        """
        with self._transaction() as database:
            size = database.execute("SELECT SUM(LENGTH(body)) FROM messages WHERE kind = 'heartbeat'").fetchone()[0]
            database.execute("DELETE FROM messages WHERE kind = 'heartbeat'")
            self._bytes -= int(size or 0)
            self._add(database, key, HEARTBEAT, body)

    def add_plays(self, plays: Sequence[tuple[str, int, dict[str, Any], int, float]]) -> None:
        """Adds shown frames to the proofs of play, a row for each creative and hour.

        Args:
            plays: Creative, hour (hours since 1970), further fields of the message, frames, seconds on the screen.

        Raises:
            sqlite3.Error: They could not be written; try again.
        """
        with self._transaction() as database:
            for creative, hour, fields, frames, seconds in plays:
                database.execute(
                    "INSERT INTO plays VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (creative, hour) DO UPDATE SET "
                    "frames = frames + excluded.frames, seconds = seconds + excluded.seconds",
                    (creative, hour, uuid.uuid4().hex, json.dumps(fields), frames, seconds),
                )

    def close_hours(self, hour: int) -> int:
        """Makes messages of the proofs of play of all hours but this one; gives how many.

        An hour that comes again, as where a clock is set back, makes a message with a key of its own: receivers add up.

        Raises:
            sqlite3.Error: They could not be written; try again.
        """
        with self._transaction() as database:
            rows = database.execute("SELECT * FROM plays WHERE hour != ? ORDER BY hour, creative", (hour,)).fetchall()
            for creative, each, key, fields, frames, seconds in rows:
                body = {
                    **json.loads(fields),
                    "key": key,
                    "creative": creative,
                    "hour": time.strftime("%Y-%m-%dT%H:00:00Z", time.gmtime(each * 3600)),
                    "frames": frames,
                    "seconds": round(seconds, 3),
                }
                self._add(database, key, PLAY, json.dumps(body, ensure_ascii=False).encode())
            database.execute("DELETE FROM plays WHERE hour != ?", (hour,))
        self._keep_reserve()
        return len(rows)

    def next_for(self, receiver: str) -> Message | None:
        """What a receiver is to get next: the oldest alert, or else the oldest proof of play; None if nothing waits."""
        return next(iter(self.batch_for(receiver, 1)), None)

    def batch_for(self, receiver: str, most: int) -> list[Message]:
        """What a receiver is to get next, at most so many messages: alerts, events, heartbeats, then proofs of play."""
        with self._lock:
            rows = self._database.execute(
                "SELECT number, key, kind, body FROM deliveries JOIN messages USING (number) WHERE receiver = ? "
                f"ORDER BY {_ORDER}, number LIMIT ?",
                (receiver, most),
            ).fetchall()
        return [Message(int(row[0]), str(row[1]), str(row[2]), bytes(row[3])) for row in rows]

    def taken(self, receiver: str, number: int) -> None:
        """Says that a receiver has a message, or will never take it."""
        with self._transaction() as database:
            database.execute("DELETE FROM deliveries WHERE receiver = ? AND number = ?", (receiver, number))
            others = database.execute("SELECT 1 FROM deliveries WHERE number = ? LIMIT 1", (number,)).fetchone()
            row = database.execute("SELECT LENGTH(body) FROM messages WHERE number = ?", (number,)).fetchone()
            if row and not others:
                database.execute("DELETE FROM messages WHERE number = ?", (number,))
                self._bytes -= int(row[0])

    def waiting(self) -> dict[str, int]:
        """How many messages wait, by kind."""
        with self._lock:
            rows = self._database.execute("SELECT kind, COUNT(*) FROM messages GROUP BY kind").fetchall()
        return {ALERT: 0, PLAY: 0, **{str(kind): int(count) for kind, count in rows}}

    def size(self) -> int:
        """Bytes of the bodies that wait."""
        return self._bytes

    def counters(self) -> dict[str, int]:
        """What was dropped since the outbox exists: `dropped_alert`, `dropped_play`."""
        with self._lock:
            rows = self._database.execute("SELECT name, value FROM counters").fetchall()
        return {"dropped_alert": 0, "dropped_play": 0, **{str(name): int(value) for name, value in rows}}

    def recall(self, name: str) -> Any:
        """What was remembered under a name; None if nothing was."""
        with self._lock:
            row = self._database.execute("SELECT value FROM state WHERE name = ?", (name,)).fetchone()
        return json.loads(row[0]) if row else None

    def close(self) -> None:
        """Closes the database."""
        with self._lock:
            self._database.close()

    def _add(self, database: sqlite3.Connection, key: str, kind: str, body: bytes) -> None:
        receivers = self._receivers if kind in (ALERT, PLAY) else self._reporters
        if not receivers:
            return
        added = database.execute("INSERT OR IGNORE INTO messages (key, kind, body) VALUES (?, ?, ?)", (key, kind, body))
        if not added.rowcount:
            return
        rows = [(receiver, added.lastrowid) for receiver in receivers]
        database.executemany("INSERT INTO deliveries VALUES (?, ?)", rows)
        self._bytes += len(body)
        while self._bytes > self._maximum_bytes:
            number, gone, size = database.execute(
                f"SELECT number, kind, LENGTH(body) FROM messages ORDER BY {_ORDER} DESC, number LIMIT 1"
            ).fetchone()
            database.execute("DELETE FROM messages WHERE number = ?", (number,))
            database.execute(
                "INSERT INTO counters VALUES (?, 1) ON CONFLICT (name) DO UPDATE SET value = value + 1",
                (f"dropped_{gone}",),
            )
            self._bytes -= int(size)

    def _measured(self) -> int:
        return int(self._database.execute("SELECT COALESCE(SUM(LENGTH(body)), 0) FROM messages").fetchone()[0])

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield self._database
                self._database.execute("COMMIT")
            except BaseException:
                if self._database.in_transaction:
                    self._database.execute("ROLLBACK")
                self._bytes = self._measured()
                # A disk that is full of the log of changes takes no more until that is emptied.
                with suppress(sqlite3.Error):
                    self._database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                raise


def _open(path: Path) -> sqlite3.Connection:
    # Transactions are begun and ended by hand, so that what belongs together is written together.
    database = sqlite3.connect(str(path), isolation_level=None, check_same_thread=False, timeout=10.0)
    try:
        database.execute("PRAGMA journal_mode = WAL")
        # A power cut must not take an alert that was told to be written.
        database.execute("PRAGMA synchronous = FULL")
        database.execute("PRAGMA foreign_keys = ON")
        # What was dropped gives its room on disk back.
        database.execute("PRAGMA journal_size_limit = 1048576")
        # The log of changes is emptied at half a megabyte, not at four: it must not take the room of alerts.
        database.execute("PRAGMA wal_autocheckpoint = 128")
        if database.execute("PRAGMA quick_check").fetchone()[0] != "ok":
            raise sqlite3.DatabaseError("damaged")
        database.executescript(_SCHEMA)
    except BaseException:
        database.close()
        raise
    return database
