"""Ingestion: AdExampleGen against TFX's CsvExampleGen, on the same rows with the same Beam runner and arguments.

    python -m benchmarks.ingestion [--rows 1000000] [--json FILE]

Each component runs alone in a process of its own. Rows per second are of its execution in the pipeline, imports
excluded. The growth of seconds per row and of memory shows whether cost is linear and memory bounded.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

from benchmarks.click_log import Project, write_project
from benchmarks.measure import Result, more, python_module, report, share, timed_process


@dataclass(frozen=True)
class Ingestion:
    """What one ingestion took.

    Attributes:
        rows: Examples written.
        seconds: Of the component's execution.
        processor_seconds: What it took of all cores.
        peak_bytes: Of its process.
    """

    rows: int
    seconds: float
    processor_seconds: float
    peak_bytes: int

    @property
    def rows_per_second(self) -> float:
        return self.rows / self.seconds


def ingest(component: str, project: Project, output: Path, creative_store: Path | None = None) -> Ingestion:
    """Runs an ingestion component in a process of its own.

    Args:
        component: One of `benchmarks.stock.ingest.COMPONENTS`.
        project: The click log.
        output: A new folder.
        creative_store: AdExampleGen's store of decoded creatives.

    Raises:
        RuntimeError: It failed, or did not write an example for each row.
    """
    command = python_module(
        "benchmarks.stock.ingest", component, "--config", str(project.config), "--output", str(output)
    )
    if creative_store is not None:
        command += ["--creative-store", str(creative_store)]
    process = timed_process(command)
    found = json.loads(process.output.splitlines()[-1])
    if found["rows"] != project.rows:
        raise RuntimeError(f"{component} made {found['rows']:,} examples of {project.rows:,} rows")
    return Ingestion(found["rows"], found["seconds"], found["processor_seconds"], process.peak_bytes)


def measure(rows: int, folder: Path) -> list[Result]:
    """Ingests `rows` rows with both components, and a fifth of them with ours."""
    project = write_project(folder / "log", rows)
    fifth = write_project(folder / "fifth", rows // 5)
    # Ours first: what the other then finds in the page cache is to its good.
    ours = ingest("AdExampleGen", project, folder / "ours")
    small = ingest("AdExampleGen", fifth, folder / "ours_fifth")
    stock = ingest("CsvExampleGen", project, folder / "stock")
    grown = f"at {rows:,} rows against {rows // 5:,}"
    return [
        more(
            f"ingestion of {rows:,} rows, against CsvExampleGen",
            ours.rows_per_second,
            stock.rows_per_second,
            "rows/s",
            ">= 8",
        ),
        share(
            f"ingestion: seconds per million rows {grown}",
            1e6 / ours.rows_per_second,
            1e6 / small.rows_per_second,
            "s",
            "<= 1.1",
        ),
        share(f"ingestion: peak memory {grown}", ours.peak_bytes / 2**20, small.peak_bytes / 2**20, "MiB", "<= 1.3"),
        share(
            f"ingestion: peak memory at {rows:,} rows, against CsvExampleGen",
            ours.peak_bytes / 2**20,
            stock.peak_bytes / 2**20,
            "MiB",
            "",
        ),
    ]


def main() -> None:
    """Measures and reports."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--json", type=Path, help="also write the results here")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="adclick-benchmark-") as folder:
        results = measure(arguments.rows, Path(folder))
    report("Ingestion", results, arguments.json)


if __name__ == "__main__":
    main()
