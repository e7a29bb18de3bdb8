"""`adclick tune` on a finished run, and a run with what it writes."""

from __future__ import annotations

import signal
import subprocess
import time
from pathlib import Path

from tests.end_to_end.harness import ADCLICK, Project, adclick, environment


def trials_done(project: Project) -> int:
    # By text, as a file may be half written.
    return sum('"COMPLETED"' in file.read_text() for file in project.output.glob("tuning/*/search/trial_*/trial.json"))


def test_a_killed_search_goes_on_and_its_result_trains(pushed: Project, tmp_path: Path) -> None:
    tuned = tmp_path / "tuned.yaml"
    arguments = ["tune", "--config", str(pushed.config), "--trials", "3", "--output", str(tuned)]
    process = subprocess.Popen([ADCLICK, *arguments], stdout=subprocess.DEVNULL, env=environment())
    deadline = time.monotonic() + 300
    while trials_done(pushed) < 1 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.2)
    process.send_signal(signal.SIGKILL)
    process.wait(60)
    assert 1 <= trials_done(pushed) < 3, "it was killed in the middle"
    before = {file: file.stat().st_mtime_ns for file in pushed.output.glob("tuning/*/search/trial_0/trial.json")}

    done = adclick(*arguments)

    assert trials_done(pushed) == 3
    assert {file: file.stat().st_mtime_ns for file in before} == before, "the first trial was not run again"
    # Whether so short a search finds anything is chance; what must hold is that it says which.
    assert done.code in (0, 4), done.text
    if done.code == 4:
        assert "nothing was written" in done.err and not tuned.exists()
        return
    trained = adclick("run", "--config", tuned, "--output", tmp_path / "output")
    assert trained.code == 0, trained.text
