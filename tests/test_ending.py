"""A test ends at once when a thread that it started fails, wherever it waits, and else not before its time is up."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

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


@pytest.fixture
def own_conftest(request: pytest.FixtureRequest) -> Any:
    return request.config.pluginmanager.get_plugin(str(Path(__file__).with_name("conftest.py")))


@pytest.mark.timeout(3_600)
def test_a_test_has_the_time_that_it_is_given(request: pytest.FixtureRequest, own_conftest: Any) -> None:
    assert own_conftest.timeout_of(request.node) == 3_600


def test_where_nothing_shall_end_a_test_nothing_does(
    request: pytest.FixtureRequest, own_conftest: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request.config.option, "timeout", 0.0)
    assert own_conftest.timeout_of(request.node) == 0


def test_other_tests_have_the_time_of_all(request: pytest.FixtureRequest, own_conftest: Any) -> None:
    given = request.config.getoption("timeout") or request.config.getini("timeout")
    assert own_conftest.timeout_of(request.node) == float(given) > 0
