"""Month after month: what a month costs that is added to a window of six, against that month alone.

    python -m benchmarks.months [--rows N] [--creatives N] [--json FILE]

Sample data of seven months. Six are run first, and not counted; then the seventh is delivered, and the window moves.
The baseline is a project that holds the seventh month alone. Data steps are ingestion, statistics, validation, drift
and Transform; a whole run is the process from start to end, which trains on six months in the one case and on one in
the other, from the last blessed model's weights (`warm start`) or anew.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from benchmarks.measure import ROOT, Result, python_module, report, timed_process

_WINDOW = 6
_DATA_STEPS = ("AdExampleGen", "StatisticsGen", "ExampleValidator", "DriftDetector", "DataGate", "Transform")


def make_project(folder: Path, drops: Path, window: int, warm_start: bool = False) -> Path:
    """A project with the sample data's columns, no month yet, and gates that any model passes; gives its config."""
    config: dict[str, Any] = yaml.safe_load((drops.parent / "config.yaml").read_text(encoding="utf-8"))
    config["data"] = {"root": "drops", "window": window}
    config["training"] = {**config.get("training", {}), "warm_start": warm_start}
    config["evaluation"] = {**config.get("evaluation", {}), "thresholds": [{"metric": "auc", "lower": 0.5}]}
    (folder / "drops").mkdir(parents=True)
    shutil.copy(drops.parent / "schema.pbtxt", folder)
    (folder / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    return folder / "config.yaml"


def run(config: Path) -> tuple[float, Mapping[str, float]]:
    """Runs the pipeline once; gives the seconds of the process and of its data steps.

    Raises:
        RuntimeError: It pushed no model.
    """
    process = timed_process(python_module("adclick", "run", "--config", str(config), "--quiet"))
    record_file = max((config.parent / "output" / "runs").glob("*/run.json"))
    record = json.loads(record_file.read_text(encoding="utf-8"))
    if record["state"] != "pushed":
        raise RuntimeError(f"adclick pushed no model: {record['state']}, {record['reasons']}")
    return process.seconds, {step["name"]: step["seconds"] for step in record["steps"]}


def data_seconds(steps: Mapping[str, float]) -> float:
    """What the data steps took together."""
    return sum(seconds for name, seconds in steps.items() if name.startswith(_DATA_STEPS))


def measure(folder: Path, rows: int, creatives: int, both: bool) -> list[Result]:
    """Runs all projects; the one with warm start only if both are asked for."""
    arguments = ["--output", str(folder / "data"), "--rows", str(rows), "--creatives", str(creatives)]
    command = python_module("adclick", "sample-data", *arguments, "--months", str(_WINDOW + 1), "--quiet")
    subprocess.run(command, cwd=ROOT, check=True)
    drops = folder / "data" / "drops"
    *earlier, newest = sorted(month.name for month in drops.iterdir())
    alone = make_project(folder / "alone", drops, window=1)
    (folder / "alone" / "drops" / newest).symlink_to(drops / newest)
    alone_seconds, alone_steps = run(alone)
    results = []
    for name, warm_start in (("anew", False), ("warm start", True))[: 2 if both else 1]:
        config = make_project(folder / name.replace(" ", "-"), drops, _WINDOW, warm_start)
        for month in earlier:
            (config.parent / "drops" / month).symlink_to(drops / month)
        run(config)
        (config.parent / "drops" / newest).symlink_to(drops / newest)
        seconds, steps = run(config)
        if not warm_start:
            results.append(_cost("data steps", data_seconds(steps), data_seconds(alone_steps), "<= 1.5"))
        results.append(_cost(f"whole run, {name}", seconds, alone_seconds, ""))
    return results


def _cost(name: str, ours: float, baseline: float, target: str) -> Result:
    title = f"a month added to a window of {_WINDOW}, {name}, against that month alone"
    return Result(title, ours, baseline, "s", ours / baseline, target)


def main() -> None:
    """Runs the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=700_000, help="impressions of all seven months")
    parser.add_argument("--creatives", type=int, default=2_000, help="distinct images")
    parser.add_argument("--json", type=Path, help="where the results go")
    parser.add_argument("--anew-only", action="store_true", help="leave out the warm start")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="adclick-months-") as name:
        results = measure(Path(name), arguments.rows, arguments.creatives, not arguments.anew_only)
    report("Month after month", results, arguments.json)


if __name__ == "__main__":
    main()
