"""One process at a time in a folder: who holds it is told, waiting works, and a dead holder frees it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from adclick.schema.errors import ConfigError
from adclick.storage import folder_lock
from adclick.storage.folder_lock import FolderLock, Holder, alone_in, holder_of

SECONDS = 60.0
HOLD = """
import os, sys, time
from adclick.storage.folder_lock import FolderLock
with FolderLock(sys.argv[1], command="run") as lock:
    lock.name_run("20261101T000000Z")
    if sys.argv[2] == "forks":
        if os.fork() == 0:
            print("held", flush=True)
            time.sleep(120)
    else:
        print("held", flush=True)
    sys.stdin.read()
"""


@contextlib.contextmanager
def holding(folder: Path, how: str = "") -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder), how],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        with process, contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def test_a_second_process_is_told_who_holds_it_since_when(tmp_path: Path) -> None:
    with holding(tmp_path) as holder, pytest.raises(ConfigError) as refusal:
        FolderLock(tmp_path, command="run").__enter__()
    said = str(refusal.value)
    assert refusal.value.exit_code == 2
    for part in ("run 20261101T000000Z", f"process {holder.pid}", os.uname().nodename, " UTC", "--wait"):
        assert part in said


def test_the_lock_of_a_killed_process_is_free_although_its_children_live(tmp_path: Path) -> None:
    with holding(tmp_path, "forks") as holder:
        holder.kill()
        holder.wait(SECONDS)
        with FolderLock(tmp_path, command="run"):
            pass


def test_who_holds_it_is_known_without_asking_for_it(tmp_path: Path) -> None:
    assert holder_of(tmp_path) is None
    with holding(tmp_path) as process:
        holder = holder_of(tmp_path)
        assert holder is not None and (holder.pid, holder.run_id) == (process.pid, "20261101T000000Z")
        process.kill()
        process.wait(SECONDS)
        assert holder_of(tmp_path) is None
    # Another process has the number of one that is long dead.
    (tmp_path / folder_lock.RUN_LOCK).write_text(holder.model_copy(update={"pid": os.getpid()}).model_dump_json())
    assert holder_of(tmp_path) is not None
    os.utime(tmp_path / folder_lock.RUN_LOCK, (0, 0))
    assert holder_of(tmp_path) is None


def test_who_waits_gets_it_when_the_holder_ends(tmp_path: Path) -> None:
    told: list[str] = []
    with holding(tmp_path) as holder:
        waiter = threading.Thread(
            target=lambda: FolderLock(tmp_path, command="run", waits=True, tell=told.append).__enter__().__exit__(),
            daemon=True,
        )
        waiter.start()
        end = time.monotonic() + SECONDS
        while not told and time.monotonic() < end:
            time.sleep(0.05)
        assert waiter.is_alive()
        assert holder.stdin is not None
        holder.stdin.close()
        waiter.join(SECONDS)
        assert not waiter.is_alive()
    assert len(told) == 1 and f"process {holder.pid}" in told[0]


def test_folders_do_not_meet(tmp_path: Path) -> None:
    with holding(tmp_path / "a"), FolderLock(tmp_path / "b", command="run"):
        pass


def leave_record(folder: Path) -> Path:
    holder = Holder(command="run", host="another-machine", pid=1, user="ada", started=datetime.now(UTC))
    file = folder / ".lock"
    file.write_text(holder.model_dump_json())
    return file


def test_the_record_of_a_dead_machine_is_taken_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder_lock, "_WATCH_SECONDS", 0.5)
    leave_record(tmp_path)
    told: list[str] = []
    with FolderLock(tmp_path, command="run", tell=told.append):
        pass
    assert "another-machine" in told[0]


def test_a_holder_on_another_machine_that_renews_its_record_keeps_it(tmp_path: Path) -> None:
    file = leave_record(tmp_path)
    ended = threading.Event()

    def renew() -> None:
        while not ended.wait(0.05):
            os.utime(file)

    renewing = threading.Thread(target=renew, daemon=True)
    renewing.start()
    try:
        with pytest.raises(ConfigError, match="ada on another-machine"):
            FolderLock(tmp_path, command="run").__enter__()
    finally:
        ended.set()
        renewing.join(SECONDS)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"file/\.lock"):
        FolderLock(tmp_path / "file", command="run").__enter__()


def test_changes_of_a_folder_take_turns(tmp_path: Path) -> None:
    with (
        alone_in(str(tmp_path)) as is_alone,
        pytest.raises(ConfigError, match="another process"),
        alone_in(str(tmp_path), seconds=0.1),
    ):
        pass
    assert is_alone
