"""What every benchmark shares: timed processes, results with their ratio, the machine's description."""

from __future__ import annotations

import json
import operator
import os
import platform
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Result:
    """One line of a benchmark.

    Attributes:
        name: What was measured, and on how much.
        ours: The figure of adclick.
        baseline: The figure of what it is set against.
        unit: The unit of both; for rates more is better, for seconds and bytes less.
        ratio: How many times better ours is, above 1 where it is; for a limit, ours over the baseline.
        target: What the ratio must reach, such as `>= 8` or `<= 1.1`.
    """

    name: str
    ours: float
    baseline: float
    unit: str
    ratio: float
    target: str

    @property
    def met(self) -> bool:
        """Whether the ratio reaches the target, which one that is not a number does not; true where there is none."""
        if not self.target:
            return True
        sign, _, bound = self.target.partition(" ")
        return {">=": operator.ge, ">": operator.gt, "<=": operator.le}[sign](self.ratio, float(bound))


def faster(name: str, ours_seconds: float, baseline_seconds: float, target: str) -> Result:
    """A result in seconds, whose ratio says how many times faster ours is."""
    return Result(name, ours_seconds, baseline_seconds, "s", baseline_seconds / ours_seconds, target)


def more(name: str, ours: float, baseline: float, unit: str, target: str) -> Result:
    """A result in a rate, whose ratio says how many times more ours does."""
    return Result(name, ours, baseline, unit, ours / baseline, target)


def share(name: str, ours: float, baseline: float, unit: str, target: str) -> Result:
    """A result whose ratio is ours over the baseline, to be kept low."""
    return Result(name, ours, baseline, unit, ours / baseline, target)


@dataclass(frozen=True)
class Process:
    """What a finished process took.

    Attributes:
        seconds: From its start to its end.
        peak_bytes: The largest resident size of the process, or of one of its children if that was larger.
        output: Its standard output.
    """

    seconds: float
    peak_bytes: int
    output: str


#: Linux counts what a process held before it became another program. So a small process of its own starts the command.
_WAITER = """\
import os, resource, subprocess, sys
code = subprocess.call(sys.argv[2:], close_fds=True)
os.write(int(sys.argv[1]), str(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss).encode())
sys.exit(code if code >= 0 else 128 - code)
"""


def timed_process(command: Sequence[str], environment: Mapping[str, str] | None = None) -> Process:
    """Runs a command from the repository's root and waits for it.

    Raises:
        RuntimeError: It failed; the message ends with what it said.
    """
    told, tell = os.pipe()
    start = time.perf_counter()
    with open(told, encoding="ascii") as peak:
        try:
            done = subprocess.run(
                [sys.executable, "-S", "-E", "-c", _WAITER, str(tell), *command],
                cwd=ROOT,
                env={**os.environ, **(environment or {})},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                pass_fds=[tell],
                check=False,
            )
        finally:
            os.close(tell)
        seconds = time.perf_counter() - start
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)} failed with {done.returncode}:\n{done.stdout[-3_000:]}")
        return Process(seconds, int(peak.read()) * 1024, done.stdout)


def python_module(module: str, *arguments: str) -> list[str]:
    """The command line of one of our modules."""
    return [sys.executable, "-m", module, *arguments]


def machine() -> str:
    """The machine in a line: processor, cores, memory, system, and the libraries that matter."""
    from importlib.metadata import version

    cpu = platform.machine()
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            cpu = line.partition(":")[2].strip()
            break
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    libraries = ", ".join(f"{name} {version(name)}" for name in ("tensorflow", "tfx", "apache-beam"))
    cores = len(os.sched_getaffinity(0))
    return f"{cpu}, {cores} cores, {memory:.0f} GiB, Python {platform.python_version()}, {libraries}"


def report(title: str, results: Sequence[Result], json_file: Path | None) -> None:
    """Prints the results as a table and, where asked, writes them as JSON."""
    console = Console(width=120)
    table = Table(title=title, title_justify="left", caption=machine(), caption_justify="left", show_edge=False)
    for heading in ("what", "ours", "baseline", "unit", "ratio", "target", ""):
        table.add_column(heading, justify="left" if heading in ("what", "unit", "") else "right")
    for result in results:
        verdict = "" if not result.target else "met" if result.met else "[bold]missed[/bold]"
        table.add_row(
            result.name,
            _figure(result.ours),
            _figure(result.baseline),
            result.unit,
            f"{result.ratio:.3g}",
            result.target,
            verdict,
        )
    console.print(table)
    if json_file is not None:
        json_file.parent.mkdir(parents=True, exist_ok=True)
        json_file.write_text(json.dumps([asdict(result) for result in results], indent=1) + "\n", encoding="utf-8")


def _figure(value: float) -> str:
    if value and abs(value) < 10:
        return f"{value:.4g}"
    return f"{value:,.1f}" if abs(value) < 1_000 else f"{value:,.0f}"
