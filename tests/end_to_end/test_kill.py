"""A run killed at any step is completed by the next one, and no half version is ever in the push directory.

While it lives nobody else runs on its output.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from tests.end_to_end.harness import ADCLICK, Project, adclick, environment, small_project

SECONDS = 300


def start_run(project: Project, *arguments: str, errors: int | Path = subprocess.DEVNULL) -> subprocess.Popen[bytes]:
    with Path(os.devnull if isinstance(errors, int) else errors).open("wb") as stream:
        return subprocess.Popen(
            [str(ADCLICK), "run", "--config", str(project.config), *arguments],
            env=environment(),
            stdout=subprocess.DEVNULL,
            stderr=stream,
            start_new_session=True,
        )


def wait_until(is_so: Callable[[], bool], process: subprocess.Popen[bytes], what: str) -> None:
    deadline = time.monotonic() + SECONDS
    while not is_so():
        assert process.poll() is None, f"the run ended before {what}"
        assert time.monotonic() < deadline, f"never came: {what}"
        time.sleep(0.02)


def kill_when(project: Project, message: str, meanwhile: Callable[[subprocess.Popen[bytes]], None]) -> None:
    """Starts a run and kills it with all its children once its log holds the message."""
    known = set((project.output / "runs").glob("*/run.log"))
    process = start_run(project)

    def has_said() -> bool:
        logs = set((project.output / "runs").glob("*/run.log")) - known
        return any(message in log.read_text(errors="replace") for log in logs)

    try:
        wait_until(has_said, process, f"it said {message!r}")
        # A fast machine would finish the run before the others have started.
        os.killpg(process.pid, signal.SIGSTOP)
        meanwhile(process)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(60)


def test_a_killed_run_is_completed_by_the_next(tmp_path: Path) -> None:
    project = small_project(tmp_path / "project")
    waiting: list[subprocess.Popen[bytes]] = []
    errors = tmp_path / "errors"

    def is_refused(holder: subprocess.Popen[bytes]) -> None:
        for done in (project.run(), adclick("clean", "--config", project.config)):
            assert done.code == 2 and f"(process {holder.pid})" in done.err and "--wait" in done.err, done.text

    def waits(holder: subprocess.Popen[bytes]) -> None:
        waiting.append(start_run(project, "--wait", errors=errors))
        wait_until(lambda: f"(process {holder.pid})" in errors.read_text(), waiting[0], "it waited")

    for component, meanwhile in (
        ("AdExampleGen-2026-09", lambda holder: None),
        ("Transform", lambda holder: None),
        ("ClickTrainer", is_refused),
        ("ModelPusher", waits),
    ):
        kill_when(project, f"Component {component} is running.", meanwhile)
        # Whoever waited runs now.
        assert project.status()["runs"][-1]["state"] in ("killed", "pushed") or waiting
        whole = [entry for entry in project.push_base.glob("*") if entry.name.isdecimal()]
        assert all((entry / "saved_model.pb").is_file() for entry in whole)

    try:
        assert waiting[0].wait(SECONDS) == 0, errors.read_text()
    finally:
        waiting[0].kill()
    assert 1 <= len(project.versions) <= 2, "the killed push may have been complete"
    assert project.status()["runs"][-1]["state"] == "pushed"
