"""Locks on folders, so that two processes do not write to one at the same time.

The lock is `flock`'s: the kernel frees it when its holder ends, however it ends. On a network file system it holds
between machines where that file system's locks do (NFS 4, or 3 with its lock daemon). Where they do not, the holder's
record in the lock file counts: a holder renews the file's time, and one on another machine that has stopped doing so is
taken for dead.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import getpass
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from adclick.schema.errors import ConfigError

#: Held by what adds artifacts to an output folder, or takes some away.
RUN_LOCK = ".lock"
#: Held while a search reads a run's artifacts and writes its results; runs may go on meanwhile.
SEARCH_LOCK = ".search.lock"

_RENEW_SECONDS = 5.0
#: How long the record of another machine's holder is watched before that holder is taken for dead.
_WATCH_SECONDS = 20.0
#: A record that was not renewed for so long is of a holder that is dead, even on a machine that hardly gets anywhere.
_DEAD_SECONDS = 120.0
_ASK_SECONDS = 0.2
_NO_LOCKS = (errno.EBADF, errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL)


class Holder(BaseModel):
    """Who holds a lock.

    Attributes:
        command: What it does: run, tune, clean.
        host: The machine.
        pid: The process there.
        user: Whose it is.
        started: Since when it holds the lock.
        run_id: The run, if it is one.
    """

    model_config = ConfigDict(extra="ignore")

    command: str
    host: str
    pid: int
    user: str
    started: datetime
    run_id: str | None = None

    def describe(self) -> str:
        """The holder in words."""
        what = self.command if self.run_id is None else f"{self.command} {self.run_id}"
        return f"{what} by {self.user} on {self.host} (process {self.pid}) since {self.started:%Y-%m-%d %H:%M:%S} UTC"


class FolderLock:
    """A lock on what a command writes below a folder, held for the length of a `with` block.

    Args:
        folder: The folder; made if it is missing.
        name: The lock's file in it.
        command: What is done while it is held, for those who are refused.
        waits: Whether to wait for a holder to end instead of raising.
        tell: Is told once, in words, who is waited for.

    Raises:
        ConfigError: It is held by another process and `waits` is false, or the folder cannot be written to.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        command: str,
        name: str = RUN_LOCK,
        waits: bool = False,
        tell: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._folder = Path(folder)
        self._file = self._folder / name
        self._waits = waits
        self._tell = tell
        self._told = False
        self._descriptor = -1
        self._ending = threading.Event()
        self._thread: threading.Thread | None = None
        self.holder = Holder(
            command=command,
            host=socket.gethostname(),
            pid=os.getpid(),
            user=user_name(),
            started=datetime.now(UTC),
        )

    def __enter__(self) -> FolderLock:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(self._file, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise ConfigError(f"{self._file}: cannot be written: {error.strerror}") from None
        # A child that outlives this process must not hold the lock in its place.
        os.register_at_fork(after_in_child=self._close)
        try:
            self._acquire()
        except BaseException:
            self._close()
            raise
        self._write(self.holder)
        self._thread = threading.Thread(target=self._renew, name="lock", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        if self._thread is not None:
            self._thread.join()
        # The file stays: who opened it to wait would otherwise hold a lock on a file that nobody else sees.
        with contextlib.suppress(OSError):
            os.ftruncate(self._descriptor, 0)
        self._close()

    def name_run(self, run_id: str) -> None:
        """Tells those who ask which run it is."""
        self.holder = self.holder.model_copy(update={"run_id": run_id})
        self._write(self.holder)

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def _acquire(self) -> None:
        while True:
            if self._try():
                other = self._read()
                if other is None or other.host == self.holder.host or not self._lives_elsewhere(other):
                    return
                fcntl.flock(self._descriptor, fcntl.LOCK_UN)
            self._refuse_or_tell()
            time.sleep(_ASK_SECONDS)

    def _try(self) -> bool:
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError as error:
            raise ConfigError(
                f"{self._file}: cannot be locked: {error.strerror}", "Put the folder on a file system with locks."
            ) from None
        return True

    def _lives_elsewhere(self, other: Holder) -> bool:
        """Whether a holder on another machine, whose lock does not reach here, renews its record."""
        self._say(f"the lock of {other.describe()} was left; watching for {_WATCH_SECONDS:g} s whether it is alive")
        before = os.fstat(self._descriptor).st_mtime_ns
        end = time.monotonic() + _WATCH_SECONDS
        while time.monotonic() < end:
            time.sleep(_ASK_SECONDS)
            # By name: what a network file system knows of an open file may be old.
            if os.stat(self._file).st_mtime_ns != before:
                return True
        return False

    def _refuse_or_tell(self) -> None:
        other = self._read()
        who = other.describe() if other is not None else "another process"
        if not self._waits:
            raise ConfigError(
                f"{self._folder}: in use: {who}",
                "Wait for it to end, or let --wait do so; a holder that is killed frees it. "
                "Runs with another `output` do not meet.",
            )
        self._say(f"waiting for {who}")

    def _say(self, text: str) -> None:
        if not self._told:
            self._told = True
            self._tell(text)

    def _read(self) -> Holder | None:
        try:
            return Holder.model_validate_json(os.pread(self._descriptor, 65536, 0))
        except (OSError, ValidationError):
            return None

    def _write(self, holder: Holder) -> None:
        content = holder.model_dump_json(indent=1).encode()
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, content, 0)

    def _renew(self) -> None:
        while not self._ending.wait(_RENEW_SECONDS):
            with contextlib.suppress(OSError):
                os.utime(self._descriptor)


def holder_of(folder: str | Path, name: str = RUN_LOCK) -> Holder | None:
    """Who holds a lock, without asking for it; None where nobody does, or the holder has died without freeing it."""
    file = Path(folder) / name
    try:
        holder = Holder.model_validate_json(file.read_bytes())
        renewed = file.stat().st_mtime
    except (OSError, ValidationError):
        return None
    if holder.host == socket.gethostname() and not _is_process(holder.pid):
        return None
    # Another process may have the number by now, but does not renew the record.
    return holder if time.time() - renewed < _DEAD_SECONDS else None


def _is_process(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


@contextlib.contextmanager
def alone_in(folder: str, seconds: float = 600.0) -> Iterator[bool]:
    """Keeps others who call this from a local folder for the length of a `with` block, waiting for them to leave it.

    Yields whether it could: not every network file system locks folders.

    Raises:
        ConfigError: Another process stayed longer than the given time.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        end = time.monotonic() + seconds
        is_alone = False
        while not is_alone:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                is_alone = True
            except BlockingIOError:
                if time.monotonic() > end:
                    raise ConfigError(f"{folder}: another process has been changing it for {seconds:g} s") from None
                time.sleep(_ASK_SECONDS)
            except OSError as error:
                if error.errno not in _NO_LOCKS:
                    raise
                break
        yield is_alone
    finally:
        os.close(descriptor)


def user_name() -> str:
    """The name of this process's account."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"user {os.getuid()}"
