"""Fixtures that every package's tests share."""

from __future__ import annotations

import faulthandler
import signal
import threading
import traceback
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from _pytest.faulthandler import fault_handler_stderr_fd_key

if TYPE_CHECKING:
    from tests.models.tiny_model import TinyModel

TESTS = Path(__file__).resolve().parent
REAL_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Excerpts of public click logs, which are not shipped with the project."""
    if not REAL_DATA.is_dir():
        pytest.skip(f"no real click logs at {REAL_DATA}")
    return REAL_DATA


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> TinyModel:
    """A trained and exported model with a column of every role; not to be changed."""
    # Imported here: tests that need no model should not wait for TensorFlow.
    from tests.models.tiny_model import train_tiny_model

    return train_tiny_model(tmp_path_factory.mktemp("tiny_model"))


@pytest.fixture(scope="session")
def oddly_named_model(tmp_path_factory: pytest.TempPathFactory) -> TinyModel:
    """The same, its columns called as no program, graph or file system would call them; not to be changed."""
    from tests.models.tiny_model import ODD_NAMES, train_tiny_model

    return train_tiny_model(tmp_path_factory.mktemp("oddly_named"), ODD_NAMES)


def pytest_make_parametrize_id(config: pytest.Config, val: object, argname: str) -> str | None:
    """Bytes are no part of a test's name: an archive holds the time, and workers must find the same tests."""
    return argname if isinstance(val, bytes | bytearray) else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with long tests first: else one process waits at the end for what the other has begun last."""
    long = {item.path for item in items if item.get_closest_marker("end_to_end")}
    items.sort(key=lambda item: item.path not in long)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Prints what tests have told by `record_property`, also those that passed in another process."""
    reports = [*terminalreporter.stats.get("passed", ()), *terminalreporter.stats.get("failed", ())]
    for report in reports:
        for name, value in getattr(report, "user_properties", ()):
            terminalreporter.write_line(f"{name}: {value}")


# No test may wait for what a failed thread of its never does: what the thread raises ends the test at once. Other waits
# end by pytest-timeout; those of libraries that let no signal through end the process, with all that waits in it.

_GRACE_SECONDS = 60.0


def timeout_of(item: pytest.Item) -> float:
    """After how many seconds pytest-timeout ends a test; 0 if it does not. What a test itself is given goes first."""
    marker = item.get_closest_marker("timeout")
    own = None if marker is None else [*marker.args, marker.kwargs.get("timeout")][0]
    given = (own, item.config.getoption("timeout"), item.config.getini("timeout"))
    # 0 is a word, too: there is no end then, and what is said behind it does not count.
    return float(next((seconds for seconds in given if seconds not in (None, "")), 0))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, Any, Any]:
    if seconds := timeout_of(item):
        stderr = item.config.stash[fault_handler_stderr_fd_key]
        faulthandler.dump_traceback_later(seconds + _GRACE_SECONDS, exit=True, file=stderr)
    try:
        return (yield)
    finally:
        faulthandler.cancel_dump_traceback_later()


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, Any, Any]:
    return (yield from _until_a_thread_fails())


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    return (yield from _until_a_thread_fails())


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, Any, Any]:
    return (yield from _until_a_thread_fails())


def _until_a_thread_fails() -> Generator[None, Any, Any]:
    main = threading.main_thread()
    failures: list[str] = []

    def note(raised: threading.ExceptHookArgs) -> None:
        frames = traceback.extract_tb(raised.exc_traceback)
        # Threads of libraries, which may fail as they please, are pytest's to warn of.
        if not any(Path(frame.filename).is_relative_to(TESTS) for frame in frames):
            hook_before(raised)
            return
        lines = traceback.format_exception(raised.exc_type, raised.exc_value, raised.exc_traceback)
        failures.append("".join(lines))
        signal.pthread_kill(main.ident or 0, signal.SIGUSR2)

    def end(number: int, frame: Any) -> None:
        pytest.fail(f"a thread of the test failed:\n{failures[0]}", pytrace=False)

    hook_before = threading.excepthook
    handler_before = signal.signal(signal.SIGUSR2, end)
    threading.excepthook = note
    try:
        return (yield)
    finally:
        threading.excepthook = hook_before
        signal.signal(signal.SIGUSR2, handler_before)
