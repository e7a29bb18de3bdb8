"""The cluster, as what is tried on it sees it, and the table of what was seen."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.gcs import Storage

PROJECT = Path(__file__).parents[2]
#: This machine's address inside the cluster.
NODE = os.environ.get("NODE", "10.99.0.1")
#: How long a run or a job may take.
RUN_SECONDS = 2400


@dataclass(frozen=True)
class Row:
    """A line of the table: what was tried, what was seen, for how long, and whether it was as it must be."""

    what: str
    saw: str
    seconds: float
    passed: bool


@dataclass
class Proof:
    """The cluster, and what was seen on it.

    Attributes:
        folder: Where a proof writes.
        storage: The bucket.
        environment: What commands of adclick are told beside it.
        rows: What was seen.
    """

    folder: Path
    storage: Storage
    environment: dict[str, str] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)

    @contextmanager
    def row(self, what: str) -> Iterator[list[str]]:
        """Adds a row: the block appends what it sees; whatever it raises is a failure, and the next row goes on."""
        saw: list[str] = []
        started = time.monotonic()
        passed = True
        try:
            yield saw
        except Exception as error:
            passed = False
            traceback.print_exc()
            said = getattr(error, "stderr", "") or getattr(error, "stdout", "") or ""
            saw.append(f"{error} {said}".strip()[:600])
        self.rows.append(Row(what, "; ".join(saw), time.monotonic() - started, passed))
        print(f"{'ok' if passed else 'FAILED'}: {what}: {self.rows[-1].saw}", flush=True)

    @property
    def passed(self) -> bool:
        return all(row.passed for row in self.rows)

    def table(self) -> str:
        lines = ["| what | seen | seconds |", "|---|---|---|"]
        for row in self.rows:
            saw = (row.saw if row.passed else f"**FAILED** {row.saw}").replace("\n", " ").replace("|", "\\|")
            lines.append(f"| {row.what} | {saw} | {row.seconds:.0f} |")
        return "\n".join(lines)

    def kubectl(self, *arguments: str, text: str | None = None, check: bool = True) -> str:
        """What kubectl says.

        Raises:
            CalledProcessError: It failed; not if `check` is False, where its errors are given, too.
        """
        done = subprocess.run(["kubectl", *arguments], input=text, capture_output=True, text=True, check=check)
        return done.stdout if check else done.stdout + done.stderr

    def json(self, *arguments: str) -> Any:
        return json.loads(self.kubectl(*arguments, "--output", "json"))

    @property
    def variables(self) -> dict[str, str]:
        """The environment of a process of this machine that reaches the bucket."""
        reach = {**self.storage.environment, **self.environment, "no_proxy": f"127.0.0.1,localhost,{NODE}"}
        return {**os.environ, **reach}

    def adclick(self, *arguments: str | Path, **variables: str) -> str:
        """What a command of adclick prints that runs on this machine and reaches the bucket; it has these variables."""
        environment = {**self.variables, **variables}
        command = [sys.executable, "-m", "adclick", *map(str, arguments)]
        return subprocess.run(command, env=environment, cwd=PROJECT, capture_output=True, text=True, check=True).stdout


def wait(what: str, done: Callable[[], Any], seconds: float) -> Any:
    """Asks every second until the answer is true; gives it.

    Raises:
        TimeoutError: It never was.
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if answer := done():
            return answer
        time.sleep(1)
    raise TimeoutError(f"{what}: not within {seconds:.0f} s")


def side_by_side(*actions: Callable[[], None]) -> None:
    """Does several things at a time, and waits for all."""
    threads = [threading.Thread(target=action) for action in actions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def broken_csv(file: Path) -> bytes:
    """A drop's file with a fifth of its rows unreadable."""
    lines = file.read_bytes().splitlines(keepends=True)
    return b"".join(b"no row\n" if number and number % 5 == 0 else line for number, line in enumerate(lines))
