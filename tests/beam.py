"""Beam's own servers as separate processes of this machine: the job service and the pool that starts Python workers."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.gcs import free_port

_START_SECONDS = 120


@contextmanager
def running(command: Sequence[str], port: int, log: Path, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """Runs a server until the block ends; the block begins when the port answers."""
    log.parent.mkdir(parents=True, exist_ok=True)
    # Beam's pool starts its workers as `python`.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [*command],
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**os.environ, "PATH": path, **environment},
        )
    try:
        wait_for_port(port, process, log)
        yield process
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(60)


def wait_for_port(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            assert process.poll() is None, log.read_text(errors="replace")[-2000:]
            assert time.monotonic() < deadline, (
                f"port {port} does not answer: {log.read_text(errors='replace')[-2000:]}"
            )
            time.sleep(0.1)


@contextmanager
def worker_pool(folder: Path) -> Iterator[str]:
    """A pool that starts a Python worker process for each that an engine asks for; gives its address."""
    port = free_port()
    command = [sys.executable, "-m", "apache_beam.runners.worker.worker_pool_main", f"--service_port={port}"]
    with running(command, port, folder / "worker_pool.log"):
        yield f"localhost:{port}"


@contextmanager
def job_service(folder: Path) -> Iterator[str]:
    """Beam's portable job service; gives its address."""
    port = free_port()
    command = [sys.executable, "-m", "apache_beam.runners.portability.local_job_service_main", f"--port={port}"]
    with running([*command, f"--staging_dir={folder / 'staging'}"], port, folder / "job_service.log"):
        yield f"localhost:{port}"
