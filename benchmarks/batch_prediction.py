"""Batch prediction: `adclick batch-predict` against the obvious way, a dictionary for each row to the REST API.

    python -m benchmarks.batch_prediction [--rows 1000000] [--creatives 500] [--json FILE]

A model is trained on a tenth of the rows, at most 100,000, and the same images, so that no image is new to it. Seconds
are those that the command itself reports, from the choice of the model to the last file, imports excluded.

The baseline reads the drop with `csv.DictReader`, makes a dictionary of each row, with the creative's key for its
image, and sends 512 at a time to the model server's REST API; its rate is of `--baseline-rows` rows, the server's start
excluded. Both must give the same probabilities. The growth of memory shows that it is bounded.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from benchmarks.click_log import IMAGE, LABEL, MONTH, Project, write_click_log, write_project
from benchmarks.measure import Result, more, python_module, report, share, timed_process
from benchmarks.photographs import write_photographs

_LEAST_ROWS_PER_SECOND = 50_000
_REQUEST_ROWS = 512
_TOLERANCE = 1e-6


@dataclass(frozen=True)
class Prediction:
    """What a batch prediction took.

    Attributes:
        rows: Rows scored.
        seconds: As the command reports them.
        peak_bytes: Of its process.
    """

    rows: int
    seconds: float
    peak_bytes: int

    @property
    def rows_per_second(self) -> float:
        return self.rows / self.seconds


def predict(project: Project, drops: Path, rows: int, output: Path) -> Prediction:
    """Runs `adclick batch-predict` in a process of its own.

    Raises:
        RuntimeError: It failed, or did not score every row.
    """
    command = python_module("adclick", "batch-predict", "--config", str(project.config), "--data", str(drops))
    process = timed_process([*command, "--output", str(output), "--json"])
    found = json.loads(process.output[process.output.index("{") :])
    if found["counts"]["rows_scored"] != rows:
        raise RuntimeError(f"{found['counts']['rows_scored']:,} of {rows:,} rows were scored")
    return Prediction(rows, found["seconds"], process.peak_bytes)


def rows_as_dictionaries(drop: Path) -> Iterator[dict[str, Any]]:
    """The rows of a drop, one after the other, as requests to the model."""
    keys: dict[str, str] = {}
    for file in sorted(drop.glob("*.csv")):
        with file.open(encoding="utf-8", newline="") as stream:
            for row in csv.DictReader(stream):
                request: dict[str, Any] = dict(row)
                del request["impression_id"], request[LABEL]
                request["timestamp"] = int(request["timestamp"])
                for name in ("viewability", "bid_price"):
                    request[name] = float(request[name])
                image = request[IMAGE]
                if image not in keys:
                    keys[image] = hashlib.sha256((drop / image).read_bytes()).hexdigest()[:32]
                request[IMAGE] = keys[image]
                yield request


def by_rest(project: Project, drop: Path, rows: int) -> tuple[list[float], float]:
    """The probabilities of the first rows of a drop by the model server's REST API, and the seconds that it took."""
    from adclick.serving.client.client import ModelServerClient
    from adclick.serving.model_server.server import running_server

    probabilities: list[float] = []
    with running_server(project.push_base) as server, ModelServerClient(server.url) as client:
        client.predict([next(rows_as_dictionaries(drop))])
        started = time.perf_counter()
        requests = islice(rows_as_dictionaries(drop), rows)
        while some := list(islice(requests, _REQUEST_ROWS)):
            probabilities += client.predict(some)
        seconds = time.perf_counter() - started
    return probabilities, seconds


def _check(output: Path, expected: list[float]) -> None:
    shards = sorted(output.glob("predictions-*.parquet"))
    found = np.concatenate([pq.read_table(shard)["click_probability"].to_numpy() for shard in shards])[: len(expected)]
    apart = float(np.abs(found - np.array(expected)).max())
    if apart > _TOLERANCE:
        raise RuntimeError(f"the probabilities differ by {apart:.2g} from those of the REST API")


def _linked_images(drops: Path, images: Path) -> None:
    (drops / MONTH).mkdir(parents=True)
    (drops / MONTH / "images").symlink_to(images, target_is_directory=True)


def measure(rows: int, creatives: int, baseline_rows: int, folder: Path) -> list[Result]:
    """Trains a model, then scores `rows` rows and a fifth of them, and `baseline_rows` by the REST API."""
    trained = Project(folder / "trained", min(rows // 10, 100_000))
    images = trained.drop / "images"
    names = [f"images/{file.name}" for file in write_photographs(images, creatives)]
    write_project(trained.folder, trained.rows, images=names)
    timed_process(python_module("adclick", "run", "--config", str(trained.config), "--quiet"))
    drops, fifth = folder / "drops", folder / "fifth"
    for place, count in ((drops, rows), (fifth, rows // 5)):
        _linked_images(place, images)
        write_click_log(place, count, seed=2, images=names)
    ours = predict(trained, drops, rows, folder / "predictions")
    small = predict(trained, fifth, rows // 5, folder / "predictions_of_a_fifth")
    expected, seconds = by_rest(trained, drops / MONTH, baseline_rows)
    _check(folder / "predictions", expected)
    name = f"batch prediction of {rows:,} rows, {creatives:,} known creatives"
    return [
        more(f"{name}, against the bound", ours.rows_per_second, _LEAST_ROWS_PER_SECOND, "rows/s", ">= 1"),
        more(
            f"{name}, against a dictionary for each of {baseline_rows:,} rows to the REST API",
            ours.rows_per_second,
            baseline_rows / seconds,
            "rows/s",
            "",
        ),
        share(
            f"batch prediction: peak memory at {rows:,} rows against {rows // 5:,}",
            ours.peak_bytes / 2**20,
            small.peak_bytes / 2**20,
            "MiB",
            "<= 1.3",
        ),
    ]


def main() -> None:
    """Measures and reports."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--creatives", type=int, default=500)
    parser.add_argument("--baseline-rows", type=int, default=20_000)
    parser.add_argument("--json", type=Path, help="also write the results here")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="adclick-benchmark-") as folder:
        results = measure(arguments.rows, arguments.creatives, arguments.baseline_rows, Path(folder))
    report("Batch prediction", results, arguments.json)


if __name__ == "__main__":
    main()
