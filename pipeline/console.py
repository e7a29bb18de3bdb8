"""What a person sees: progress by step on the console, the libraries' own noise in a log file."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

from adclick.components.ad_example_gen.image_progress import image_progress_to
from adclick.schema.errors import AdclickError

#: Of a line in a log, which is no terminal: wider than any table, so that no cell is cut.
_LOG_WIDTH = 10_000


@dataclass(frozen=True)
class ProgressStep:
    """One finished step of a run.

    Attributes:
        name: The component.
        seconds: Wall-clock time.
        reused: Whether an earlier run's result was taken.
    """

    name: str
    seconds: float
    reused: bool


#: How a command ends where the program is not at fault.
_NO_FAULTS = (AdclickError, click.exceptions.ClickException, click.exceptions.Exit)


@contextlib.contextmanager
def noise_to(log_file: Path) -> Iterator[IO[str]]:
    """Sends everything written to standard output and error, by C++ too, to a file; gives the real standard output."""
    log_file.parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    saved = os.dup(1), os.dup(2)
    with log_file.open("ab", buffering=0) as log, os.fdopen(os.dup(saved[0]), "w", encoding="utf-8") as real:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        try:
            yield real
        except Exception as error:
            if not isinstance(error, _NO_FAULTS):
                error.add_note(f"Log: {log_file}")
            raise
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for target, kept in zip((1, 2), saved, strict=True):
                os.dup2(kept, target)
                os.close(kept)


@contextlib.contextmanager
def noise_to_temporary(command: str) -> Iterator[IO[str]]:
    """As `noise_to`, to a file of this process alone, which stays, and is named, only where the program is at fault."""
    descriptor, name = tempfile.mkstemp(prefix=f"adclick-{command}-", suffix=".log")
    os.close(descriptor)
    log_file = Path(name)
    try:
        with noise_to(log_file) as real:
            yield real
    except (*_NO_FAULTS, KeyboardInterrupt):
        log_file.unlink(missing_ok=True)
        raise
    log_file.unlink(missing_ok=True)


def plain_console(stream: IO[str] | None = None, **options: Any) -> Console:
    """A console that prints texts as they are.

    What looks like markup or the code of an emoji is a name or a value of the data; styles are given by `Text`.

    Args:
        stream: Where to print; standard output if None.
        options: Other options of `Console`.
    """
    return Console(file=stream, markup=False, emoji=False, highlight=False, **options)


def one_line(text: str) -> str:
    """A name or value of the data for a cell of a table, which a line break would tear."""
    return "".join(character if character.isprintable() else " " for character in text)


def name_width(console: Console) -> int:
    """So wide may the column of names be in a table: on a terminal longer ones are cut, lest they cut the numbers."""
    return max(12, console.width // 3)


def result_console(stream: IO[str]) -> Console:
    """A console for results; where the output is no terminal nothing is cut or wrapped, however wide."""
    return plain_console(stream, width=None if stream.isatty() else _LOG_WIDTH)


class Steps:
    """The steps of a run.

    Attributes:
        finished: Those that ended well, in their order.
        running: The one at work, or that failed; None before the first and after the last.
        on_change: Is called as a step starts or ends.
    """

    def __init__(self, on_change: Callable[[], None] = lambda: None) -> None:
        self.finished: list[ProgressStep] = []
        self.running: str | None = None
        self.on_change = on_change


class StepWatcher(logging.Handler):
    """Follows TFX's local runner by what it logs as each component starts and ends."""

    _RUNNING = re.compile(r"Component (\S+) is running\.")
    _FINISHED = re.compile(r"Component (\S+) is finished\.")
    _CACHED = re.compile(r"A cached execution \d+ is used\.")

    def __init__(self, on_start: Callable[[str], None], on_end: Callable[[ProgressStep], None]) -> None:
        super().__init__(logging.INFO)
        self._on_start = on_start
        self._on_end = on_end
        self._started = 0.0
        self._reused = False

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        if running := self._RUNNING.fullmatch(message):
            self._started, self._reused = time.monotonic(), False
            self._on_start(running[1])
        elif self._CACHED.fullmatch(message):
            self._reused = True
        elif finished := self._FINISHED.fullmatch(message):
            self._on_end(ProgressStep(finished[1], time.monotonic() - self._started, self._reused))


@contextlib.contextmanager
def watching(console: Console | None, total: int, steps: Steps) -> Iterator[None]:
    """Shows each step of a local run as it goes by.

    Args:
        console: Where to show it; nothing is shown if None.
        total: How many steps there will be.
        steps: Is filled.
    """
    from absl import logging as absl_logging

    # Not by the logger's own level: TFX's libraries save and restore the one that absl knows.
    verbosity = absl_logging.get_verbosity()
    absl_logging.set_verbosity(absl_logging.INFO)
    logger = logging.getLogger("absl")
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=console is None) as progress:
        task = progress.add_task("", total=total)

        def start(name: str) -> None:
            steps.running = name
            steps.on_change()
            progress.update(task, description=name)

        def end(step: ProgressStep) -> None:
            steps.running = None
            steps.finished.append(step)
            steps.on_change()
            progress.advance(task)
            if console is not None:
                how = "reused" if step.reused else f"{step.seconds:.1f} s"
                progress.console.print(
                    Text.assemble("  ", ("✓", "green"), f" {step.name:<32} ", (how, "dim")), highlight=False
                )

        watcher = StepWatcher(start, end)
        logger.addHandler(watcher)
        try:
            with image_progress_to(lambda text: progress.update(task, description=f"{steps.running}: {text}")):
                yield
        finally:
            logger.removeHandler(watcher)
            absl_logging.set_verbosity(verbosity)
