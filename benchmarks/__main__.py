"""Runs every benchmark, one after the other, and gathers their results in one file."""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.measure import ROOT, machine, python_module

SHORT = {
    "ingestion": ["--rows", "200000"],
    "batch_prediction": ["--rows", "200000", "--creatives", "200", "--baseline-rows", "2000"],
    "images": ["--large", "300", "--small", "800", "--rows", "10000", "--creatives", "200", "--baseline-rows", "2000"],
    "bucket": ["--images", "500"],
    "whole_run": ["--rows", "1000", "50000", "--growth-from", "25000"],
    "columns": ["--rows", "20000"],
    "months": ["--rows", "70000", "--creatives", "500", "--anew-only"],
    "training": ["--rows", "100000", "--image-rows", "8000", "--seconds", "5"],
    "quality": [
        "--rows",
        "60000",
        "--creatives",
        "800",
        "--seeds",
        "2",
        "--control-rows",
        "20000",
        "--rival",
        "lightgbm_target_encoding",
        "--rival",
        "catboost",
    ],
    "gates": ["--rows", "60000", "--creatives", "100", "--draws", "40"],
    "roll_out": ["--rate", "50", "--seconds", "90", "--restarts", "2", "--deletions", "1"],
    "serving": ["--seconds", "3", "--requests", "20000"],
    "console_cost": ["--seconds", "3"],
    "stream_history": ["--events", "200000", "--keys", "200000"],
    "stream_quality": ["--seeds", "2", "--clicks", "30000"],
    "edge": ["--training-creatives", "600", "--steps", "300", "--booked", "200", "--foreign", "200"],
}
FULL: dict[str, list[str]] = {
    "ingestion": [],
    "batch_prediction": [],
    "images": ["--baseline-rows", "10000"],
    "bucket": [],
    "whole_run": [],
    "columns": [],
    "months": [],
    "training": [],
    "quality": [],
    "gates": [],
    "roll_out": [],
    "serving": [],
    "console_cost": [],
    "stream_history": [],
    "stream_quality": [],
    "edge": [],
}


def main(
    full: Annotated[
        bool, typer.Option(help="The sizes of docs/explanation/measured.md: about two hours on two cores.")
    ] = False,
    real_data: Annotated[
        Path | None, typer.Option(help="A folder of real click logs for the quality benchmark.")
    ] = None,
    json_file: Annotated[Path, typer.Option("--json", help="Where the results go.")] = ROOT / "benchmarks/results.json",
) -> None:
    """Run all benchmarks."""
    failed = []
    gathered = []
    for name, arguments in (FULL if full else SHORT).items():
        if name == "quality" and real_data is not None:
            arguments = [*arguments, "--real-data", str(real_data)]
        start = time.perf_counter()
        with tempfile.TemporaryDirectory(prefix="adclick-benchmark-") as folder:
            results = Path(folder) / "results.json"
            command = python_module(f"benchmarks.{name}", *arguments, "--json", str(results))
            status = subprocess.run(command, cwd=ROOT, check=False).returncode
            if status:
                failed.append(name)
            else:
                gathered += json.loads(results.read_text(encoding="utf-8"))
        print(f"{name}: {time.perf_counter() - start:.0f} s\n", flush=True)
    json_file.write_text(json.dumps({"machine": machine(), "results": gathered}, indent=1) + "\n", encoding="utf-8")
    print(f"Wrote {json_file}.")
    if failed:
        print(f"Failed: {', '.join(failed)}.")
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
