"""Reads and decodes JPEGs and does nothing else, a process a core; prints its seconds, and the processor's, as JSON.

    python -m benchmarks.stock.decode FORM FILE_LIST

`scaled` decodes as adclick does, by the ratio that libjpeg scales by: the limit of any ingestion. `full` decodes all
pixels and averages them to adclick's squares. The seconds are from when all processes are ready to when the last ends.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import time
from collections.abc import Sequence
from multiprocessing.sharedctypes import Synchronized
from multiprocessing.synchronize import Barrier
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

FORMS = ("scaled", "full")


def main() -> None:
    """Decodes the files of a list, which names one a line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("form", choices=FORMS)
    parser.add_argument("list", type=Path)
    arguments = parser.parse_args()
    files = arguments.list.read_text(encoding="utf-8").splitlines()
    context = multiprocessing.get_context("spawn")
    cores = len(os.sched_getaffinity(0))
    ready = context.Barrier(cores + 1)
    processor = context.Value("d", 0.0)
    workers = [
        context.Process(target=_decode, args=(files[core::cores], arguments.form, ready, processor))
        for core in range(cores)
    ]
    for worker in workers:
        worker.start()
    ready.wait()
    start = time.perf_counter()
    for worker in workers:
        worker.join()
    if any(worker.exitcode for worker in workers):
        raise SystemExit(1)
    print(json.dumps({"seconds": time.perf_counter() - start, "processor_seconds": processor.value}), flush=True)


def _decode(files: Sequence[str], form: str, ready: Barrier, processor: Synchronized[float]) -> None:
    import tensorflow as tf

    from adclick.components.ad_example_gen.settings import IngestionSettings
    from adclick.models.images import inspect_image, scaling_ratio

    tf.config.threading.set_intra_op_parallelism_threads(1)
    limits = IngestionSettings()
    header = inspect_image(Path(files[0]).read_bytes(), limits.max_image_pixels)
    # They are all of one size, so that its header need not be read.
    ratio = scaling_ratio(header.width, header.height, limits.image_size) if form == "scaled" else 1

    def decode(file: str) -> None:
        with open(file, "rb") as stream:
            encoded = stream.read()
        pixels = tf.raw_ops.DecodeJpeg(contents=encoded, channels=3, ratio=ratio, dct_method="INTEGER_ACCURATE")
        if form == "full":
            size = [limits.image_size, limits.image_size]
            tf.raw_ops.ResizeArea(images=tf.expand_dims(pixels, 0), size=size)

    decode(files[0])
    ready.wait()
    before = time.process_time()
    for file in files:
        decode(file)
    with processor.get_lock():
        processor.value += time.process_time() - before


if __name__ == "__main__":
    main()
