"""Images in a bucket: read side by side, as ingestion reads them, against one after the other.

    python -m benchmarks.bucket [--images 5000] [--latency-milliseconds 20] [--json FILE]

The images lie in fake-gcs-server, the emulator of the tests, behind a proxy in another process that adds the latency to
each answer; google-cloud-storage speaks TLS with it. Both ways read the same objects, decoded and resized too.
"""

from __future__ import annotations

import argparse
import io
import os
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.measure import Result, faster, report

_DISTINCT = 50
_PIXELS = 128


def _small_images() -> list[bytes]:
    """JPEGs of 128 × 128 pixels, some 3 KB each."""
    random = np.random.default_rng(1)
    files = []
    for _ in range(_DISTINCT):
        shapes = Image.fromarray(random.integers(0, 256, (8, 8, 3), dtype=np.uint8))
        stream = io.BytesIO()
        shapes.resize((_PIXELS, _PIXELS), Image.Resampling.BICUBIC).save(stream, "JPEG")
        files.append(stream.getvalue())
    return files


def _serve(folder: Path, images: int, latency_seconds: float, connection: Connection) -> None:
    from tests.gcs import running_storage

    with running_storage(folder / "storage") as storage:
        storage.make_bucket("ads")
        files = _small_images()
        for number in range(images):
            storage.put(f"gs://ads/images/{number}.jpg", files[number % len(files)])
        storage.latency_seconds = latency_seconds
        connection.send(storage.environment)
        connection.recv()


def measure(images: int, latency_seconds: float, folder: Path) -> list[Result]:
    """Reads all images both ways."""
    ours, theirs = get_context("spawn").Pipe()
    server = get_context("spawn").Process(target=_serve, args=(folder, images, latency_seconds, theirs), daemon=True)
    server.start()
    while not ours.poll(1):
        if not server.is_alive():
            raise RuntimeError("the emulator cannot be had; run the tests of storage/bucket.py to see why")
    os.environ.update(ours.recv())

    from adclick.components.ad_example_gen.creatives import read_creative
    from adclick.components.ad_example_gen.pipeline import BUCKET_IMAGE_THREADS
    from adclick.components.ad_example_gen.settings import IngestionSettings
    from adclick.models.creatives import OK

    settings = IngestionSettings()

    def read(number: int) -> str:
        return read_creative(f"gs://ads/images/{number}.jpg", settings).status

    seconds = {}
    for threads in (BUCKET_IMAGE_THREADS, 1):
        read(0)
        started = time.perf_counter()
        with ThreadPoolExecutor(threads) as pool:
            statuses = list(pool.map(read, range(images)))
        seconds[threads] = time.perf_counter() - started
        if set(statuses) != {OK}:
            raise RuntimeError(f"not every image was read: {set(statuses)}")
    ours.send(None)
    server.join(30)
    name = f"{images:,} small images from a bucket, {latency_seconds * 1000:.0f} ms latency"
    return [faster(name, seconds[BUCKET_IMAGE_THREADS], seconds[1], ">= 5")]


def main() -> None:
    """Measures and reports."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=5_000)
    parser.add_argument("--latency-milliseconds", type=float, default=20)
    parser.add_argument("--json", type=Path, help="also write the results here")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="adclick-benchmark-") as folder:
        results = measure(arguments.images, arguments.latency_milliseconds / 1000, Path(folder))
    report("Images in a bucket", results, arguments.json)


if __name__ == "__main__":
    main()
