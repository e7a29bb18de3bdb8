"""A run killed at any step is completed by the next one, and no half version is ever in the push directory."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

from tests.end_to_end.harness import ADCLICK, Project, environment, small_project


def kill_when(project: Project, message: str) -> None:
    """Starts a run and kills it with all its children once its log holds the message."""
    process = subprocess.Popen(
        [str(ADCLICK), "run", "--config", str(project.config)],
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    known = set((project.output / "runs").glob("*/run.log"))
    deadline = time.monotonic() + 300
    while True:
        logs = set((project.output / "runs").glob("*/run.log")) - known
        if any(message in log.read_text(errors="replace") for log in logs):
            break
        assert process.poll() is None, f"the run ended before it said {message!r}"
        assert time.monotonic() < deadline, f"the run never said {message!r}"
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def test_a_killed_run_is_completed_by_the_next(tmp_path: Path) -> None:
    project = small_project(tmp_path / "project")
    for component in ("AdExampleGen-2026-09", "Transform", "ClickTrainer", "ModelPusher"):
        kill_when(project, f"Component {component} is running.")
        assert project.status()["runs"][-1]["state"] in ("running", "pushed")
        whole = [entry for entry in project.push_base.glob("*") if entry.name.isdecimal()]
        assert all((entry / "saved_model.pb").is_file() for entry in whole)

    done = project.run()

    assert done.code == 0, done.text
    assert 1 <= len(project.versions) <= 2, "the killed push may have been complete"
    assert project.status()["runs"][-1]["state"] == "pushed"
