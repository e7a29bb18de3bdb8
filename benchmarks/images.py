"""Images: how fast they are read, against the decoder's own limit; once in their life; stored once, not by impression.

    python -m benchmarks.images [--large 3000] [--small 8000] [--full] [--rows 100000] [--creatives 2000]
                                [--baseline-rows N] [--json FILE]

Reading: JPEGs of 1200 × 1000 and of 300 × 250 pixels, each named by some five rows. The limit is a loop over the same
files that reads and decodes them, scaled as adclick does, and nothing else, a process a core; another such loop decodes
all pixels. A second month, of the same number of images, shows 95 % that the store of creatives knows: at the addresses
that they had, or as copies elsewhere. What the rows alone take is measured by a month without images and taken off.
Processor time tells more than seconds where the machine has other work.
The pictures are made once, in the user's cache. `--full` takes 100,000 large and 185,000 small ones.

Storing: the baseline is CsvExampleGen with a custom executor that reads, decodes and resizes the image of every row,
with adclick's own decoder to adclick's own size, and stores the pixels in the row's example. With `--baseline-rows` it
ingests fewer rows and its seconds are scaled by the rows, which the result's name then says.

All run on the same Beam runner with the same arguments. Seconds are of the component's execution, imports excluded.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.click_log import Project, write_project
from benchmarks.ingestion import Ingestion, ingest
from benchmarks.measure import Result, faster, more, python_module, report, share, timed_process
from benchmarks.photographs import cached_photographs, write_photographs

_LARGE, _SMALL = (1200, 1000), (300, 250)
_FULL_LARGE, _FULL_SMALL = 100_000, 185_000
#: So many rows an image that less than 1 % of the images are in none.
_ROWS_PER_IMAGE = 5
_NEW_SHARE = 0.05


@dataclass(frozen=True)
class _Read:
    """An ingestion of images.

    Attributes:
        ingestion: What it took.
        by_reading: Its distinct images by how they were had.
    """

    ingestion: Ingestion
    by_reading: dict[str, int]

    @property
    def images(self) -> int:
        return sum(self.by_reading.values())


def measure_reading(count: int, size: tuple[int, int], target: str, folder: Path) -> list[Result]:
    """Reads a month of images, and a second that shows most of them again.

    Args:
        count: Images of a month.
        size: Their width and height in pixels.
        target: The share of the decoder's limit.
        folder: A new folder.
    """
    name = f"{count:,} JPEGs of {size[0]} × {size[1]}"
    new = max(round(_NEW_SHARE * count), 1)
    pictures = [str(file) for file in cached_photographs(count + new, *size)]
    first, second = pictures[:count], pictures[new:]
    rows = _ROWS_PER_IMAGE * count

    plain = ingest("AdExampleGen", write_project(folder / "plain", rows), folder / "without images")
    _tell(f"{rows:,} rows without images: {plain.seconds:.1f} s")
    store = folder / "creatives.sqlite"
    month = _read(f"{name}, first", rows, first, folder / "first", store)
    again = _read(f"{name}, 95 % known", rows, second, folder / "second", store)
    copies = _read(f"{name}, 95 % known, elsewhere", rows, _linked(second, folder / "linked"), folder / "third", store)
    quarter = _read(
        f"a quarter of {name}", rows // 4, first[: count // 4], folder / "quarter", folder / "quarter.sqlite"
    )
    limit, full = (_bare_loop(form, first, folder) for form in ("scaled", "full"))

    own, own_again, own_copies = (_beyond(plain.seconds, read.ingestion.seconds) for read in (month, again, copies))
    rate = month.images / own
    work, work_again = (_beyond(plain.processor_seconds, read.ingestion.processor_seconds) for read in (month, again))
    return [
        more(f"{name}: ingestion, against the scaled decoder's limit", rate, count / limit.seconds, "images/s", target),
        more(f"{name}: ingestion, against a loop of full decoding", rate, count / full.seconds, "images/s", ""),
        share(
            f"{name}: ingestion, processor time an image, against the scaled decoder's",
            1e3 * work / month.images,
            1e3 * limit.processor_seconds / count,
            "ms",
            "",
        ),
        share(f"{name}: a month of 95 % known, against its first", own_again, own, "s", "<= 0.1"),
        share(f"{name}: the same, processor time", work_again, work, "s", "<= 0.1"),
        share(f"{name}: the same, rows included", again.ingestion.seconds, month.ingestion.seconds, "s", ""),
        share(f"{name}: 95 % known, as copies elsewhere", own_copies, own, "s", ""),
        share(
            f"{name}: peak memory, against a quarter of them",
            month.ingestion.peak_bytes / 2**20,
            quarter.ingestion.peak_bytes / 2**20,
            "MiB",
            "<= 1.3",
        ),
    ]


def _beyond(rows_alone: float, seconds: float) -> float:
    """What the images took; no number where so few of them are lost in the noise of the rows."""
    return seconds - rows_alone if seconds > rows_alone else math.nan


def _read(what: str, rows: int, images: Sequence[str], folder: Path, store: Path) -> _Read:
    project = write_project(folder / "log", rows, images=images)
    ingestion = ingest("AdExampleGen", project, folder / "output", store)
    (counts,) = (folder / "output").glob("pipeline_root/*/quarantine/*/ingestion.json")
    by_reading = json.loads(counts.read_text(encoding="utf-8"))["images_by_reading"]
    _tell(f"{what}: {ingestion.seconds:.1f} s, {by_reading}")
    if "unusable" in by_reading:
        raise RuntimeError(f"{what}: {by_reading['unusable']:,} images could not be read")
    return _Read(ingestion, by_reading)


def _linked(files: Sequence[str], folder: Path) -> list[str]:
    """Links to copies of files: other addresses of the same bytes."""
    folder.mkdir()
    linked = [folder / os.path.basename(file) for file in files]
    for file, link in zip(files, linked, strict=True):
        link.symlink_to(file)
    return [str(link) for link in linked]


@dataclass(frozen=True)
class _Loop:
    """A loop over files that only decodes them.

    Attributes:
        seconds: From its start to its end.
        processor_seconds: What it took of all cores.
    """

    seconds: float
    processor_seconds: float


def _bare_loop(form: str, files: Sequence[str], folder: Path) -> _Loop:
    names = folder / f"{form}.txt"
    names.write_text("\n".join(files), encoding="utf-8")
    process = timed_process(python_module("benchmarks.stock.decode", form, str(names)))
    loop = _Loop(**json.loads(process.output.splitlines()[-1]))
    _tell(f"a bare loop, {form}: {loop.seconds:.1f} s, {len(files) / loop.seconds:,.0f} images/s")
    return loop


def _tell(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {line} (load {os.getloadavg()[0]:.1f})", flush=True)


def measure_storing(rows: int, creatives: int, baseline_rows: int, folder: Path) -> list[Result]:
    """Ingests impressions and their images both ways."""
    log = Project(folder / "log", rows)
    names = [f"images/{file.name}" for file in write_photographs(log.drop / "images", creatives)]
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
    parser.add_argument("--large", type=int, default=3_000, help="images of 1200 × 1000 pixels; 0 for none")
    parser.add_argument("--small", type=int, default=8_000, help="images of 300 × 250 pixels; 0 for none")
    parser.add_argument("--full", action="store_true", help="as many as a large advertiser has: hours")
    parser.add_argument("--rows", type=int, default=100_000, help="rows to store; 0 for none")
    parser.add_argument("--creatives", type=int, default=2_000)
    parser.add_argument("--baseline-rows", type=int, help="rows that the baseline ingests; as many by default")
    parser.add_argument("--json", type=Path, help="also write the results here")
    arguments = parser.parse_args()
    large, small = (_FULL_LARGE, _FULL_SMALL) if arguments.full else (arguments.large, arguments.small)
    results = []
    for count, size, target in ((large, _LARGE, ">= 0.7"), (small, _SMALL, ">= 0.6")):
        if count:
            with tempfile.TemporaryDirectory(prefix="adclick-benchmark-") as folder:
                results += measure_reading(count, size, target, Path(folder))
    if arguments.rows:
        baseline_rows = arguments.baseline_rows or arguments.rows
        with tempfile.TemporaryDirectory(prefix="adclick-benchmark-") as folder:
            results += measure_storing(arguments.rows, arguments.creatives, baseline_rows, Path(folder))
    report("Images", results, arguments.json)


if __name__ == "__main__":
    main()
