"""A version that knows a million creatives: how soon it is loaded, its memory, and whether pushing it fails requests.

    python -m benchmarks.served_creatives [--project FOLDER] [--creatives 1000000] [--rate 50] [--json FILE]

The baseline is the version that the project pushed, in the same run; the other is a copy of it with so many more lines
in its asset of creatives. Each is loaded in a process of its own, by what a server loads with. Then `adclick serve`
answers requests for scores in an open loop from the small version; the large one is pushed, and the small one again.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx

from adclick.models.export import CREATIVES_ASSET
from benchmarks.load import Load
from benchmarks.measure import Process, Result, python_module, report, share, timed_process
from benchmarks.serving import MODEL, as_scores, gateway, held_out_rows, load, prepare_project

_KEY_DIGITS = 32
_SERVED_WITHIN_SECONDS = 300.0
_QUIET_SECONDS = 5.0
#: Long enough for two slow loads.
_LOAD_SECONDS = 90.0


def _with_creatives(version: Path, copy: Path, creatives: int) -> None:
    """A copy of a version that knows so many more creatives, each with an embedding that the version has."""
    shutil.copytree(version, copy)
    asset = copy / "assets" / CREATIVES_ASSET
    embeddings = [line.partition("\t")[2] for line in asset.read_text(encoding="utf-8").splitlines()[1:]]
    with asset.open("a", encoding="utf-8") as stream:
        for number in range(creatives):
            key = hashlib.sha256(b"%d" % number).hexdigest()[:_KEY_DIGITS]
            stream.write(f"{key}\t{embeddings[number % len(embeddings)]}\n")


def _loaded(version: Path) -> tuple[Process, float]:
    """The process that has loaded a version, and the seconds that loading alone took."""
    process = timed_process(python_module("benchmarks.model_load", str(version)))
    return process, json.loads(process.output.splitlines()[-1])["seconds"]


def _push(url: str, version: Path, base: Path, number: int) -> float:
    """Pushes a version under a number; gives the seconds until the gateway answers from it."""
    partial = base.parent / "partial"
    shutil.copytree(version, partial)
    partial.rename(base / str(number))
    begun = time.monotonic()
    while httpx.get(f"{url}/v1/fields", trust_env=False, timeout=60).json()["model"]["version"] != number:
        if time.monotonic() - begun > _SERVED_WITHIN_SECONDS:
            raise RuntimeError(f"version {number} is not served within {_SERVED_WITHIN_SECONDS:g} s")
        time.sleep(0.2)
    print(f"  version {number} is served after {time.monotonic() - begun:.1f} s", flush=True)
    return time.monotonic() - begun


def _swap(small: Path, large: Path, body: Path, rate: float, folder: Path) -> tuple[Load, list[float]]:
    """Pushes the large version and the small one again under load; gives that, and the seconds until each is served."""
    base = folder / "models" / MODEL
    shutil.copytree(small, base / "1")
    with gateway(base, folder) as server, ThreadPoolExecutor(1) as pool:
        arguments = ["--rate", str(rate), "--seconds", str(_LOAD_SECONDS)]
        loading = pool.submit(load, f"{server.url}/v1/score", body, *arguments)
        waits = []
        for number, version in ((2, large), (3, small)):
            time.sleep(_QUIET_SECONDS)
            waits.append(_push(server.url, version, base, number))
        time.sleep(_QUIET_SECONDS)
        if loading.done():
            raise RuntimeError("the load ended before both versions were served: the machine is too slow")
        return loading.result(_LOAD_SECONDS + 60), waits


def main() -> None:
    """Measures and reports."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--project", type=Path, help="the folder of a finished run with images; made if left out")
    parser.add_argument("--creatives", type=int, default=1_000_000)
    parser.add_argument("--rate", type=float, default=50.0, help="requests for each second")
    parser.add_argument("--json", type=Path, help="also write the results here")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="adclick-benchmark-") as name:
        folder = Path(name)
        project = arguments.project or prepare_project(folder / "project")
        pushed = project / "output" / "serving_model" / MODEL
        small = max((version for version in pushed.iterdir() if version.name.isdigit()), key=lambda one: int(one.name))
        large = folder / "large"
        _with_creatives(small, large, arguments.creatives)
        (known, seconds), (more_known, more_seconds) = _loaded(small), _loaded(large)
        print(f"  loaded: {seconds:.1f} s and {more_seconds:.1f} s", flush=True)
        body = folder / "scores.jsonl"
        rows = held_out_rows(project, 1_000)
        body.write_text("".join(json.dumps(as_scores([row])) + "\n" for row in rows), encoding="utf-8")
        met, waits = _swap(small, large, body, arguments.rate, folder)
    print(f"answers by status: {met.statuses}; without an answer: {met.dropped}", flush=True)
    title = f"{arguments.creatives:,} creatives more"
    added = (more_known.peak_bytes - known.peak_bytes) / 2**20
    report(
        "Served creatives",
        [
            Result(f"{title}: load", more_seconds, 10.0, "s", more_seconds / 10.0, "<= 1"),
            Result(f"{title}: memory added", added, 400.0, "MiB", added / 400.0, "<= 1"),
            share(f"{title}: load, against the version without", more_seconds, seconds, "s", ""),
            share(f"{title}: from push to served, against the version without", waits[0], waits[1], "s", ""),
            Result(f"{title}: failed requests while pushed", met.failed, met.requests, "requests", met.failed, "<= 0"),
            share("latency meanwhile: p99 against p50", met.p99_ms, met.p50_ms, "ms", ""),
        ],
        arguments.json,
    )


if __name__ == "__main__":
    main()
