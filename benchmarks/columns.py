"""Growth with columns: `adclick run` on a log of many columns against one of few, and the SavedModels that they push.

    python -m benchmarks.columns [--rows N] [--columns FEW MANY] [--json FILE]

Of each log half of the columns hold names or codes, 4, 30, 300 or 3,000 distinct ones, and half quantities: normal,
log-normal, mostly zero, and partly missing. Clicks, some 6 %, depend on the first of each kind alone. Both runs take as
many passes over the data. A run is a process from start to end, its report included; what is said of the SavedModel
`benchmarks.model_load` measures.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from rich.console import Console
from rich.table import Table

from adclick.schema.curated import build_schema, write_schema
from adclick.schema.feature_table import parse_feature_table
from benchmarks.click_log import LABEL, Project
from benchmarks.measure import Result, python_module, report, share, timed_process

_EPOCHS = 2
_MOST_GROWTH = 6
_DISTINCT = (4, 30, 300, 3_000)
_START = 1_790_812_800  # 2026-10-01T00:00:00Z
_SECONDS = 31 * 86_400


@dataclass(frozen=True)
class Run:
    """What a run and the model that it pushed took.

    Attributes:
        columns: Feature columns of the log.
        seconds: The whole process.
        steps: Seconds by step; `other` is what no step accounts for, imports and the report above all.
        nodes: Of the SavedModel's graph and the functions in it.
        graph_bytes: Of `saved_model.pb`, which holds the graph without the weights.
        load_seconds: To load the SavedModel.
    """

    columns: int
    seconds: float
    steps: Mapping[str, float]
    nodes: int
    graph_bytes: int
    load_seconds: float


def write_log(file: Path, rows: int, columns: int, *, seed: int = 1) -> dict[str, dict[str, str]]:
    """Writes a CSV file of `columns` features, a time and a label; gives its feature table."""
    random = np.random.default_rng(seed)
    frame = pd.DataFrame({"shown_at": np.sort(random.integers(_START, _START + _SECONDS, rows))})
    table = {"shown_at": {"role": "timestamp", "format": "epoch_seconds"}}
    logit = np.full(rows, -2.9)
    made: dict[str, object] = {}
    for number in range(columns // 2):
        distinct = _DISTINCT[number % len(_DISTINCT)]
        codes = np.minimum(np.exp(random.random(rows) * np.log(distinct + 1)).astype(np.int64) - 1, distinct - 1)
        if number < len(_DISTINCT):
            logit += random.normal(0, 0.4, distinct)[codes]
        made[f"code_{number}"] = np.array([f"v{value}" for value in range(distinct)], object)[codes]
        table[f"code_{number}"] = {"role": "categorical"}
    for number in range(columns - columns // 2):
        kind = number % 4
        values = random.normal(10, 3, rows) if kind == 0 else random.lognormal(0, 1, rows)
        if kind == 2:
            values[random.random(rows) < 0.9] = 0
        if number == 0:
            logit += 0.1 * (values - 10)
        cells = pd.Series(values.round(3))
        made[f"amount_{number}"] = cells.where(random.random(rows) > 0.2) if kind == 3 else cells
        table[f"amount_{number}"] = {"role": "numeric", "scaling": "log" if kind else "standard"}
    frame = pd.concat([frame, pd.DataFrame(made)], axis=1)
    frame[LABEL] = (random.random(rows) < 1 / (1 + np.exp(-logit))).astype(np.int8)
    table[LABEL] = {"role": "label"}
    file.parent.mkdir(parents=True, exist_ok=True)
    frame.to_csv(file, index=False)
    return table


def write_project(folder: Path, rows: int, columns: int) -> Project:
    """A project whose gates any model passes."""
    project = Project(folder, rows)
    table = write_log(project.drop / "impressions.csv", rows, columns)
    # What init would take some of hundreds of columns for is not what is measured.
    write_schema(build_schema(parse_feature_table(table)), str(folder / "schema.pbtxt"))
    document: dict[str, Any] = {"data": {"root": project.drops.name}, "features": table}
    document["output"] = project.output.name
    # A patience of as many epochs never stops early.
    document["training"] = {"max_epochs": _EPOCHS, "patience": _EPOCHS}
    document["evaluation"] = {
        "slices": [["code_0"], ["code_1"]],
        "thresholds": [{"metric": "auc", "lower": 0.2}, {"metric": "log_loss", "upper": 1.0}],
    }
    project.config.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
    return project


def run(project: Project, columns: int) -> Run:
    """Runs the pipeline and loads the model that it pushed.

    Raises:
        RuntimeError: It failed, or pushed no model.
    """
    process = timed_process(python_module("adclick", "run", "--config", str(project.config), "--quiet"))
    (record_file,) = project.output.glob("runs/*/run.json")
    record = json.loads(record_file.read_text(encoding="utf-8"))
    if record["state"] != "pushed":
        raise RuntimeError(f"adclick pushed no model: {record['state']}, {record['reasons']}")
    (version,) = project.push_base.glob("*/saved_model.pb")
    loaded = json.loads(
        timed_process(python_module("benchmarks.model_load", str(version.parent))).output.splitlines()[-1]
    )
    steps = {step["name"]: step["seconds"] for step in record["steps"]}
    steps["other"] = process.seconds - sum(steps.values())
    return Run(columns, process.seconds, steps, loaded["nodes"], loaded["bytes"], loaded["seconds"])


def compare(few: Run, many: Run, rows: int) -> list[Result]:
    """The growth from few columns to many."""
    what = f"{many.columns} columns against {few.columns}, {rows:,} rows"
    most = f"<= {_MOST_GROWTH}"
    results = [share(f"{what}: whole run", many.seconds, few.seconds, "s", most)]
    results += [
        share(f"{what}: {name}", seconds, few.steps[name], "s", "")
        for name, seconds in many.steps.items()
        if few.steps.get(name)
    ]
    return [
        *results,
        share(f"{what}: graph nodes of the SavedModel", many.nodes, few.nodes, "nodes", most),
        share(f"{what}: saved_model.pb", many.graph_bytes / 1024, few.graph_bytes / 1024, "KiB", most),
        share(f"{what}: load time", many.load_seconds, few.load_seconds, "s", most),
    ]


def _print_steps(runs: Sequence[Run]) -> None:
    table = Table(title="Seconds by step", title_justify="left", box=None)
    table.add_column("step")
    for one in runs:
        table.add_column(f"{one.columns} columns", justify="right")
    for name in runs[0].steps:
        table.add_row(name, *(f"{one.steps.get(name, 0):.1f}" for one in runs))
    Console(width=120).print(table)


def main() -> None:
    """Measures and reports."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000, help="impressions of each log")
    parser.add_argument("--columns", type=int, nargs=2, default=[20, 200], metavar=("FEW", "MANY"))
    parser.add_argument("--json", type=Path, help="also write the results here")
    arguments = parser.parse_args()
    runs = []
    with tempfile.TemporaryDirectory(prefix="adclick-benchmark-") as folder:
        for columns in arguments.columns:
            print(f"{arguments.rows:,} rows of {columns} columns …", flush=True)
            runs.append(run(write_project(Path(folder) / str(columns), arguments.rows, columns), columns))
    few, many = runs
    report("Growth with columns", compare(few, many, arguments.rows), arguments.json)
    _print_steps(runs)


if __name__ == "__main__":
    main()
