"""The creatives that were decoded once, kept below `output` from month to month: what is known is not decoded again.

A SQLite database that several processes may use at once. It tells creatives by content and by the rule of decoding,
and remembers of each address the file's size and time (in a bucket, its generation): where these are as before, the
file is not even opened. It is a convenience: a run that cannot use it does all the work, and says why.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
import threading
import time
import zlib
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from adclick.models.creatives import OK, Creative

STORE_FILE: Final = "creatives.sqlite"

#: How an image of a month was had.
UNCHANGED: Final = "unchanged"
SAME_CONTENT: Final = "same_content"
NEW: Final = "new"
CHANGED: Final = "changed"
UNUSABLE: Final = "unusable"
#: The same for people.
HOW_HAD: Final = {
    UNCHANGED: "known and not opened",
    SAME_CONTENT: "known by content",
    NEW: "new",
    CHANGED: "changed",
    UNUSABLE: "unusable",
}

#: The version of the tables below; a store of another is made anew.
_VERSION = 1
_TABLES = (
    "CREATE TABLE addresses (address BLOB, rule TEXT, state TEXT, key TEXT, used INTEGER, "
    "PRIMARY KEY (address, rule)) WITHOUT ROWID",
    "CREATE TABLE creatives (key TEXT, rule TEXT, bytes INTEGER, width INTEGER, height INTEGER, "
    "image BLOB, checksum INTEGER, PRIMARY KEY (key, rule))",
)
_CREATIVE = "c.bytes, c.width, c.height, c.image, c.checksum"
_WAIT_SECONDS = 60.0
_ASK_SECONDS = 0.1
#: What is new is written when it is so much, or so old: the work that a killed run loses.
_PENDING_CREATIVES = 256
_PENDING_BYTES = 8 << 20
_PENDING_SECONDS = 10.0
#: The time of use is no more exact than that, lest each use be written.
_DAY_SECONDS = 86_400


@dataclass(frozen=True)
class StoredCreative:
    """A good creative as the store holds it.

    Attributes:
        key: See `Creative`.
        size: Bytes of the file.
        width: Pixels of the original.
        height: Pixels of the original.
        image: See `Creative`.
    """

    key: str
    size: int
    width: int
    height: int
    image: bytes

    def creative(self, address: str) -> Creative:
        """It, at an address."""
        return Creative(self.key, OK, address, image=self.image, width=self.width, height=self.height)

    @property
    def checksum(self) -> int:
        return zlib.crc32(self.image, zlib.crc32(f"{self.key} {self.size} {self.width} {self.height}".encode()))


@dataclass(frozen=True)
class StoredAddress:
    """What is remembered of an address.

    Attributes:
        state: The file's state, see `storage.filesystem.state`; empty if it may have changed without showing it.
        creative: What it held; None if that is not stored.
    """

    state: str
    creative: StoredCreative | None


class CreativeStore:
    """The store, open for the length of a `with` block; safe to use from several threads.

    Attributes:
        troubles: Why the store could not be used, or what was wrong with it, in words.
    """

    def __init__(self, path: str, rule: str) -> None:
        """Names the store.

        Args:
            path: The database, a local file; it is made if there is none.
            rule: How its images are decoded, see `models.images.decoding_rule`; those of another are as good as none.
        """
        self._path = path
        self._rule = rule
        self._connection: sqlite3.Connection | None = None
        self._descriptor = -1
        self._using = threading.RLock()
        self._creatives: dict[str, StoredCreative] = {}
        self._addresses: list[tuple[bytes, str, str, str, int]] = []
        self._used: list[tuple[int, bytes, str]] = []
        self._written = time.monotonic()
        # Adding to it takes no lock, for which all would queue.
        self._had: deque[str] = deque()
        self.troubles: list[str] = []

    def __enter__(self) -> CreativeStore:
        with self._telling():
            self._open()
        return self

    def __exit__(self, *_: object) -> None:
        with self._using:
            with self._telling():
                self._write()
            self._close()

    def count(self, how: str) -> None:
        """Counts an image by how it was had."""
        self._had.append(how)

    @property
    def counts(self) -> Counter[str]:
        """Images by how they were had."""
        return Counter(self._had)

    def find_address(self, address: str) -> StoredAddress | None:
        """What is remembered of an address; None if nothing is, or the store cannot be used."""
        row = None
        with self._using, self._telling():
            if self._connection is not None:
                row = self._connection.execute(
                    f"SELECT a.state, a.used, a.key, {_CREATIVE} FROM addresses a LEFT JOIN creatives c "
                    "ON c.key = a.key AND c.rule = a.rule WHERE a.address = ? AND a.rule = ?",
                    (_as_bytes(address), self._rule),
                ).fetchone()
        if row is None:
            return None
        state, used, key, *stored = row
        now = int(time.time())
        if used < now - _DAY_SECONDS:
            with self._using:
                self._used.append((now, _as_bytes(address), self._rule))
        return StoredAddress(state, self._whole(key, stored))

    def find_content(self, key: str) -> StoredCreative | None:
        """A creative by its key; None if it is not stored, or the store cannot be used."""
        row = None
        with self._using, self._telling():
            if key in self._creatives:
                return self._creatives[key]
            if self._connection is not None:
                row = self._connection.execute(
                    f"SELECT {_CREATIVE} FROM creatives c WHERE c.key = ? AND c.rule = ?", (key, self._rule)
                ).fetchone()
        return None if row is None else self._whole(key, row)

    def keep(self, address: str, state: str, creative: StoredCreative) -> None:
        """Remembers a good creative.

        Args:
            address: Its address.
            state: The state in which its file was read; empty if a change might leave that as it is.
            creative: What the file held.
        """
        with self._using, self._telling():
            if self._connection is None:
                return
            self._creatives[creative.key] = creative
            self._addresses.append((_as_bytes(address), self._rule, state, creative.key, int(time.time())))
            if (
                len(self._addresses) >= _PENDING_CREATIVES
                or len(self._creatives) * len(creative.image) >= _PENDING_BYTES
                or time.monotonic() - self._written >= _PENDING_SECONDS
            ):
                self._write()

    def forget_unused(self, days: int, *, dry_run: bool = False) -> int:
        """Deletes what no ingestion has met for some days, and gives the space back.

        Returns:
            How many creatives are deleted, or would be.
        """
        before = int(time.time()) - days * _DAY_SECONDS
        with self._using, self._telling():
            if self._connection is None:
                return 0
            self._connection.execute("BEGIN IMMEDIATE")
            self._connection.execute("DELETE FROM addresses WHERE used < ?", (before,))
            deleted = self._connection.execute(
                "DELETE FROM creatives WHERE (key, rule) NOT IN (SELECT key, rule FROM addresses)"
            ).rowcount
            self._connection.execute("ROLLBACK" if dry_run else "COMMIT")
            if not dry_run:
                self._connection.execute("PRAGMA incremental_vacuum").fetchall()
            return deleted
        return 0

    def _whole(self, key: str, row: list[object] | tuple[object, ...]) -> StoredCreative | None:
        """The creative of a row; None where there is none, or it is not as it was written."""
        size, width, height, image, checksum = row
        if not (isinstance(size, int) and isinstance(width, int) and isinstance(height, int)):
            return None
        if isinstance(image, bytes):
            stored = StoredCreative(key, size, width, height, image)
            if stored.checksum == checksum:
                return stored
        self._tell("creatives in it are damaged: their images are decoded anew")
        return None

    def _write(self) -> None:
        """Writes what is pending, all or nothing."""
        if self._connection is None or not (self._addresses or self._used):
            return
        creatives = [
            (found.key, self._rule, found.size, found.width, found.height, found.image, found.checksum)
            for found in self._creatives.values()
        ]
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.executemany("INSERT OR REPLACE INTO creatives VALUES (?, ?, ?, ?, ?, ?, ?)", creatives)
        self._connection.executemany("INSERT OR REPLACE INTO addresses VALUES (?, ?, ?, ?, ?)", self._addresses)
        self._connection.executemany("UPDATE addresses SET used = ? WHERE address = ? AND rule = ?", self._used)
        self._connection.execute("COMMIT")
        self._creatives.clear()
        self._addresses.clear()
        self._used.clear()
        self._written = time.monotonic()

    @contextlib.contextmanager
    def _telling(self) -> Iterator[None]:
        """Goes on without the store where it fails; one that cannot be read is made anew first."""
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            self._close()
            if isinstance(error, sqlite3.OperationalError | OSError):
                self._tell(f"not used: {error}")
                return
            try:
                self._make_anew()
            except (sqlite3.Error, OSError) as again:
                self._close()
                self._tell(f"not used: {error}; and not begun anew: {again}")
            else:
                self._tell(f"begun anew: {error}")

    def _tell(self, trouble: str) -> None:
        with self._using:
            text = f"{self._path}: {trouble}"
            if text not in self.troubles:
                self.troubles.append(text)

    def _open(self) -> None:
        self._lock(fcntl.LOCK_SH)
        connection = sqlite3.connect(self._path, timeout=_WAIT_SECONDS, isolation_level=None, check_same_thread=False)
        self._connection = connection
        # As of one moment: another process may be making the tables.
        connection.execute("BEGIN")
        is_new = not _has_tables(connection)
        connection.execute("COMMIT")
        if is_new:
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        _set_write_ahead(connection)
        # A power failure may lose what was written last, a killed process nothing.
        connection.execute("PRAGMA synchronous = NORMAL")
        if is_new:
            connection.execute("BEGIN IMMEDIATE")
            if not _has_tables(connection):
                for table in _TABLES:
                    connection.execute(table)
                connection.execute(f"PRAGMA user_version = {_VERSION}")
            connection.execute("COMMIT")

    def _lock(self, kind: int) -> None:
        """Locks the store: shared to use it, exclusive to delete it.

        Raises:
            OSError: It is locked otherwise, or cannot be.
        """
        if self._descriptor < 0:
            self._descriptor = os.open(f"{self._path}.lock", os.O_RDWR | os.O_CREAT, 0o666)
        end = time.monotonic() + _WAIT_SECONDS
        while True:
            try:
                fcntl.flock(self._descriptor, kind | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if kind == fcntl.LOCK_EX or time.monotonic() > end:
                    raise OSError("another process uses it") from None
                time.sleep(_ASK_SECONDS)

    def _make_anew(self) -> None:
        self._creatives.clear()
        self._addresses.clear()
        self._used.clear()
        self._lock(fcntl.LOCK_EX)
        for suffix in ("-wal", "-shm", ""):
            with contextlib.suppress(FileNotFoundError):
                os.remove(self._path + suffix)
        self._open()

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        descriptor, self._descriptor = self._descriptor, -1
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):
                connection.close()
        if descriptor >= 0:
            os.close(descriptor)


def _has_tables(connection: sqlite3.Connection) -> bool:
    """Whether it is a store already; to be asked within a transaction.

    Raises:
        sqlite3.DatabaseError: It is one of another version, or no database.
    """
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if tables and version != _VERSION:
        raise sqlite3.DatabaseError(f"it is of version {version}, not {_VERSION}")
    return bool(tables)


def _set_write_ahead(connection: sqlite3.Connection) -> None:
    """Has readers and a writer not wait for each other; SQLite itself does not wait for others that do so."""
    end = time.monotonic() + _WAIT_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL").fetchall()
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > end:
                raise
            time.sleep(_ASK_SECONDS)


def _as_bytes(address: str) -> bytes:
    return address.encode("utf-8", "surrogateescape")
