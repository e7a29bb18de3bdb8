"""Runs the command line as a user does, in processes of its own.

They are forked from one that has loaded TensorFlow and TFX already (see `command_host`), or, where a test wants it or
has changed the environment, started afresh.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ADCLICK = Path(sys.executable).with_name("adclick")
_HOST = Path(__file__).with_name("command_host.py")


@dataclass(frozen=True)
class Done:
    """A finished command."""

    code: int
    out: str
    err: str

    @property
    def text(self) -> str:
        return self.out + self.err


def adclick(*arguments: str | Path, stdin: str | None = None, fresh: bool = False) -> Done:
    """Runs a command to its end; a traceback is never what a user should see.

    Args:
        arguments: Those of the command line.
        stdin: What it reads; nothing if None.
        fresh: Whether the console script is started, instead of a process forked that has loaded its libraries.
    """
    command = [str(argument) for argument in arguments]
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        given.write((stdin or "").encode())
        given.seek(0)
        streams = given.fileno(), out.fileno(), err.fileno()
        if fresh or _lasting(environment()) != _ENVIRONMENT:
            code = subprocess.run(
                [str(ADCLICK), *command], stdin=given, stdout=out, stderr=err, env=environment(), check=False
            ).returncode
        else:
            code = _hosted(command, streams)
        out.seek(0)
        err.seek(0)
        done = Done(code, out.read().decode(), err.read().decode())
    assert "Traceback" not in done.text, done.text
    return done


def environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "ADCLICK_TRACEBACK"}


def _lasting(variables: dict[str, str]) -> dict[str, str]:
    """An environment without what pytest changes in it from test to test."""
    return {name: value for name, value in variables.items() if not name.startswith("PYTEST_")}


#: Libraries read theirs when they are loaded: in another, a command is started afresh.
_ENVIRONMENT = _lasting(environment())


@dataclass
class _Host:
    """The process that commands are forked from, and the socket to it."""

    process: subprocess.Popen[bytes]
    channel: socket.socket

    @staticmethod
    def start() -> _Host:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            process = subprocess.Popen(
                # As in a console script, nothing of the working directory can be imported.
                [sys.executable, "-P", str(_HOST), str(theirs.fileno())],
                env=environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                # Its commands can be ended with it.
                start_new_session=True,
            )
        return _Host(process, ours)

    def end(self) -> None:
        self.channel.close()
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(60)


_hosts: list[_Host] = []


@atexit.register
def _end_hosts() -> None:
    while _hosts:
        _hosts.pop().end()


def _hosted(command: list[str], streams: tuple[int, int, int]) -> int:
    """Runs a command in a process that is forked from the host; gives its exit status."""
    if not _hosts:
        _hosts.append(_Host.start())
    (host,) = _hosts
    message = json.dumps({"arguments": command, "folder": os.getcwd()}).encode()
    try:
        socket.send_fds(host.channel, [message], list(streams))
        answer = host.channel.recv(64)
        assert answer, f"the host of commands ended with {host.process.wait(60)}"
        return int(answer)
    except BaseException:
        # Out of time: the command would go on, and its answer would be taken for that of the next.
        _end_hosts()
        raise


@dataclass(frozen=True)
class Project:
    """A folder with drops, a config and a schema."""

    folder: Path

    @property
    def config(self) -> Path:
        return self.folder / "config.yaml"

    @property
    def output(self) -> Path:
        return self.folder / "output"

    @property
    def push_base(self) -> Path:
        return self.output / "serving_model" / "adclick"

    def run(self, *arguments: str, fresh: bool = False) -> Done:
        return adclick("run", "--config", self.config, *arguments, fresh=fresh)

    def status(self) -> dict[str, Any]:
        done = adclick("status", "--config", self.config, "--json")
        assert done.code == 0, done.text
        return dict(json.loads(done.out))

    @property
    def versions(self) -> list[int]:
        """Versions in the push directory; every entry must be a whole one."""
        if not self.push_base.is_dir():
            return []
        entries = sorted(entry.name for entry in self.push_base.iterdir())
        assert all(entry.isdecimal() and (self.push_base / entry / "saved_model.pb").is_file() for entry in entries), (
            entries
        )
        return sorted(map(int, entries))

    def edit_config(self, edit: Callable[[dict[str, Any]], None]) -> None:
        document = yaml.safe_load(self.config.read_text())
        edit(document)
        self.config.write_text(yaml.safe_dump(document, sort_keys=False))

    def edit_rows(self, month: str, edit: Callable[[list[str]], list[str]]) -> None:
        """Rewrites the rows of a month's uncompressed CSV files."""
        for file in (self.folder / "drops" / month).glob("*.csv"):
            header, *rows = file.read_bytes().split(b"\n")
            edited = edit([row.decode("latin-1") for row in rows if row])
            file.write_bytes(b"\n".join([header, *(row.encode("latin-1") for row in edited), b""]))


def held_out_examples(project: Project, count: int) -> list[bytes]:
    """Serialized examples of the eval split of the small project's newest month."""
    # Imported here: what only runs the command line should not wait for TensorFlow.
    import tensorflow as tf

    folder = project.output / "pipeline_root" / "AdExampleGen-2026-09" / "examples"
    files = sorted(str(file) for file in folder.glob("*/Split-eval/*"))
    return [record.numpy() for record in tf.data.TFRecordDataset(files).take(count)]


def small_project(folder: Path, *, months: int = 2, rows: int = 8_000) -> Project:
    """Sample data small enough for a run in seconds, with gates that so few clicks can pass."""
    done = adclick(
        *("sample-data", "--output", folder, "--rows", str(rows), "--creatives", "60", "--months", str(months)),
        "--quiet",
    )
    assert done.code == 0, done.text
    project = Project(folder)

    def loosen(config: dict[str, Any]) -> None:
        config["evaluation"] = {
            "slices": [["device_type"]],
            "new_value_slices": ["ad_id"],
            "confidence_intervals": False,
            "thresholds": [
                {"metric": "auc", "lower": 0.56},
                {"metric": "normalised_entropy", "upper": 1.03, "max_drop": 0.02},
                {"metric": "calibration_ratio", "lower": 0.5, "upper": 2.0},
            ],
        }
        # So few clicks show no effect of images; the tests need a network that has one.
        config["training"] = {"max_epochs": 3, "epoch_evidence": -1_000}
        config["ingestion"] = {"max_quarantine_share": 0.05}

    project.edit_config(loosen)
    return project
