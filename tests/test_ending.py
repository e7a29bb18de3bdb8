"""A test ends at once when a thread that it started fails, wherever it waits."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

PROBE = """
import threading

def test_waits_for_what_never_comes():
    def fail():
        raise ValueError("the thread's own words")

    threading.Thread(target=fail, daemon=True).start()
    threading.Event().wait()

def test_is_none_the_worse():
    assert threading.active_count()
"""


def test_what_a_thread_raises_ends_the_test_at_once() -> None:
    probe = Path(__file__).with_name(f"test_probe_{os.getpid()}.py")
    probe.write_text(PROBE)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(probe)],
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
    finally:
        probe.unlink()
    assert "1 failed, 1 passed" in done.stdout, done.stdout
    assert "the thread's own words" in done.stdout
