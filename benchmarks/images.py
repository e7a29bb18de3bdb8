"""Images: AdExampleGen, which stores each creative once, against storing each impression's image in its example.

    python -m benchmarks.images [--rows 100000] [--creatives 2000] [--baseline-rows N] [--json FILE]

The baseline is CsvExampleGen with a custom executor that reads, decodes and resizes the image of every row, with
adclick's own decoder to adclick's own size, and stores the pixels in the row's example. Both run on the same Beam
runner with the same arguments. Seconds are of the component's execution, imports excluded. With `--baseline-rows` the
baseline ingests fewer rows and its seconds are scaled by the rows, which the result's name then says.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.click_log import Project, write_project
from benchmarks.ingestion import ingest
from benchmarks.measure import Result, faster, report, share

_WIDTH, _HEIGHT = 600, 500
_GRAIN = 7.0
_QUALITY = 85


def write_photographs(folder: Path, count: int, *, seed: int = 1) -> list[str]:
    """Writes photograph-like JPEGs: smooth shapes of random colours under the grain of a sensor.

    Args:
        folder: Where to write; made if need be.
        count: How many.
        seed: The same seed writes the same bytes.

    Returns:
        Their names. Each is 600 × 500 pixels, in 60 to 120 KB.
    """
    random = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    grain = random.normal(0, _GRAIN, (2 * _HEIGHT, 2 * _WIDTH, 1)).astype(np.float32)
    names = []
    for number in range(count):
        shapes = random.integers(0, 256, (int(random.integers(4, 40)), int(random.integers(4, 40)), 3), dtype=np.uint8)
        smooth = Image.fromarray(shapes).resize((_WIDTH, _HEIGHT), Image.Resampling.BICUBIC)
        top, left = int(random.integers(0, _HEIGHT)), int(random.integers(0, _WIDTH))
        pixels = np.asarray(smooth) + grain[top : top + _HEIGHT, left : left + _WIDTH]
        name = f"creative-{number:05d}.jpg"
        Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(folder / name, "JPEG", quality=_QUALITY)
        names.append(name)
    return names


def measure(rows: int, creatives: int, baseline_rows: int, folder: Path) -> list[Result]:
    """Ingests impressions and their images both ways."""
    log = Project(folder / "log", rows)
    names = [f"images/{name}" for name in write_photographs(log.drop / "images", creatives)]
    write_project(log.folder, rows, images=names)
    fewer = log
    if baseline_rows != rows:
        fewer = Project(folder / "fewer", baseline_rows)
        fewer.drop.mkdir(parents=True)
        (fewer.drop / "images").symlink_to(log.drop / "images", target_is_directory=True)
        write_project(fewer.folder, baseline_rows, images=names)
    ours = ingest("AdExampleGen", log, folder / "ours")
    baseline = ingest("CsvAndImagesExampleGen", fewer, folder / "baseline")
    scaled = "" if fewer is log else f", the baseline scaled from {baseline_rows:,} rows"
    seconds = baseline.seconds * rows / baseline_rows
    name = f"ingestion of {rows:,} impressions of {creatives:,} creatives{scaled}"
    return [
        faster(name, ours.seconds, seconds, ">= 10"),
        share(f"{name}: peak memory", ours.peak_bytes / 2**20, baseline.peak_bytes / 2**20, "MiB", ""),
    ]


def main() -> None:
    """Measures and reports."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--creatives", type=int, default=2_000)
    parser.add_argument("--baseline-rows", type=int, help="rows that the baseline ingests; as many by default")
    parser.add_argument("--json", type=Path, help="also write the results here")
    arguments = parser.parse_args()
    baseline_rows = arguments.baseline_rows or arguments.rows
    with tempfile.TemporaryDirectory(prefix="adclick-benchmark-") as folder:
        results = measure(arguments.rows, arguments.creatives, baseline_rows, Path(folder))
    report("Images", results, arguments.json)


if __name__ == "__main__":
    main()
