"""The whole run, from process start to pushed model: `adclick run` against the same DAG of stock TFX components.

    python -m benchmarks.whole_run [--rows 1000 1000000] [--growth-from N] [--json FILE]

Both train the same network with the same batch size for the same number of epochs on the same rows and the same
features, judge it by the same slices and thresholds without confidence intervals, and push it. The stock DAG, described
in benchmarks/stock/dag.py, imports `tfx.v1` as all of TFX's templates do, names its functions instead of having module
files built into packages, and gets the Beam arguments that were measured to be fastest for it. Peak memory is that of
the largest process. The growth is ours alone, from `--growth-from` rows, by default a fifth of the most.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.click_log import Project, write_project
from benchmarks.measure import Process, Result, faster, python_module, report, share, timed_process

#: Beam's in-memory runner by name, and an image's name, without which TFX packages itself anew in every component.
STOCK_BEAM_ARGUMENTS = (
    "--runner=apache_beam.runners.portability.fn_api_runner.FnApiRunner",
    "--sdk_container_image=none",
)
_EPOCHS = 3
_MOST_MEMORY = 3 * 2**30
#: From so many rows on fixed costs do not decide.
_MANY_ROWS = 100_000


@dataclass(frozen=True)
class Run:
    """What one run took.

    Attributes:
        rows: Impressions of the click log.
        process: The whole process.
        steps: Seconds by step; `other` is what no step accounts for, imports above all.
    """

    rows: int
    process: Process
    steps: Mapping[str, float]

    @property
    def mebibytes(self) -> float:
        return self.process.peak_bytes / 2**20


def run_ours(project: Project) -> Run:
    """Runs `adclick run` on a project that has not run yet.

    Raises:
        RuntimeError: It failed, or pushed no model.
    """
    process = timed_process(python_module("adclick", "run", "--config", str(project.config), "--quiet"))
    (record_file,) = project.output.glob("runs/*/run.json")
    record = json.loads(record_file.read_text(encoding="utf-8"))
    if record["state"] != "pushed" or not list(project.push_base.glob("*/saved_model.pb")):
        raise RuntimeError(f"adclick pushed no model: {record['state']}, {record['reasons']}")
    return Run(project.rows, process, _with_rest({step["name"]: step["seconds"] for step in record["steps"]}, process))


def run_stock(project: Project, output: Path) -> Run:
    """Runs the stock DAG.

    Raises:
        RuntimeError: It failed, or pushed no model.
    """
    command = python_module("benchmarks.stock.run", "--config", str(project.config), "--rows", str(project.rows))
    beam = [f"--beam={argument}" for argument in STOCK_BEAM_ARGUMENTS]
    process = timed_process([*command, "--output", str(output), *beam])
    times = next(line for line in reversed(process.output.splitlines()) if line.startswith('{"seconds"'))
    return Run(project.rows, process, _with_rest(json.loads(times)["seconds"], process))


def _with_rest(steps: Mapping[str, float], process: Process) -> dict[str, float]:
    return {**steps, "other": process.seconds - sum(steps.values())}


def measure(sizes: list[int], growth_from: int, folder: Path) -> tuple[list[Result], list[tuple[str, Run]]]:
    """Runs both sides at each size, ours at one size more, and gives the results and the runs they come from."""
    results: list[Result] = []
    runs: list[tuple[str, Run]] = []
    for rows in sizes:
        project = write_project(folder / f"log-{rows}", rows, epochs=_EPOCHS)
        # Ours first: what the other then finds in the page cache is to its good.
        ours = run_ours(project)
        stock = run_stock(project, folder / f"stock-{rows}")
        runs += [("ours", ours), ("stock", stock)]
        target = ">= 2.5" if rows >= _MANY_ROWS else ">= 2"
        results += [
            faster(f"whole run of {rows:,} rows", ours.process.seconds, stock.process.seconds, target),
            share(f"whole run of {rows:,} rows: peak memory", ours.mebibytes, stock.mebibytes, "MiB", ""),
        ]
    most = max(sizes)
    largest = next(run for side, run in runs if side == "ours" and run.rows == most)
    small = next((run for side, run in runs if side == "ours" and run.rows == growth_from), None)
    if small is None:
        small = run_ours(write_project(folder / f"log-{growth_from}", growth_from, epochs=_EPOCHS))
        runs.append(("ours", small))
    grown = f"at {most:,} rows against {growth_from:,}"
    results += [
        share(
            f"whole run: seconds per million rows {grown}",
            largest.process.seconds / most * 1e6,
            small.process.seconds / growth_from * 1e6,
            "s",
            "<= 1.1",
        ),
        share(f"whole run: peak memory {grown}", largest.mebibytes, small.mebibytes, "MiB", "<= 1.3"),
        share(
            f"whole run: peak memory at {most:,} rows against 3 GiB",
            largest.mebibytes,
            _MOST_MEMORY / 2**20,
            "MiB",
            "<= 1",
        ),
    ]
    return results, runs


def _print_steps(runs: list[tuple[str, Run]]) -> None:
    for side, run in runs:
        table = Table(title=f"{side}, {run.rows:,} rows: {run.process.seconds:.1f} s", title_justify="left", box=None)
        table.add_column("step")
        table.add_column("seconds", justify="right")
        for name, seconds in run.steps.items():
            table.add_row(name, f"{seconds:.1f}")
        Console(width=120).print(table)


def main() -> None:
    """Measures and reports."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000, 1_000_000], help="sizes of the click log")
    parser.add_argument("--growth-from", type=int, help="rows that our growth is measured from")
    parser.add_argument("--json", type=Path, help="also write the results here")
    arguments = parser.parse_args()
    growth_from = arguments.growth_from or max(arguments.rows) // 5
    with tempfile.TemporaryDirectory(prefix="adclick-benchmark-") as folder:
        results, runs = measure(arguments.rows, growth_from, Path(folder))
    report("Whole run", results, arguments.json)
    _print_steps(runs)


if __name__ == "__main__":
    main()
