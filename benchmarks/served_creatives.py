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
import subprocess
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from benchmarks.load import Load
from benchmarks.measure import ROOT, Result, python_module, report
from benchmarks.serving import MODEL, as_scores, free_port, held_out_rows, prepare_project

_KEY_DIGITS = 32
_READY_SECONDS = 300.0
_QUIET_SECONDS = 5.0


@dataclass(frozen=True)
class _Loaded:
    """What loading a version took: seconds, and bytes of the process's memory that are there afterwards."""

    seconds: float
    bytes: int


def _with_creatives(version: Path, copy: Path, creatives: int) -> None:
    """A copy of a version that knows so many more creatives, each with an embedding that the version has."""
    shutil.copytree(version, copy)
    asset = copy / "assets" / "creatives.tsv"
    embeddings = [line.partition("\t")[2] for line in asset.read_text().splitlines()[1:]]
    with asset.open("a", encoding="utf-8") as stream:
        for number in range(creatives):
            key = hashlib.sha256(b"%d" % number).hexdigest()[:_KEY_DIGITS]
            stream.write(f"{key}\t{embeddings[number % len(embeddings)]}\n")


def _load(version: Path) -> _Loaded:
    command = python_module("benchmarks.model_load", str(version))
    done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    said = json.loads(done.stdout.splitlines()[-1])
    return _Loaded(said["seconds"], said["resident_bytes"])


def _push(version: Path, base: Path, number: int) -> None:
    shutil.copytree(version, base.parent / "pushed")
    (base.parent / "pushed").rename(base / str(number))


def _served(url: str) -> int:
    fields: dict[str, Any] = httpx.get(f"{url}/v1/fields", trust_env=False, timeout=60).json()
    return int(fields["model"]["version"])


def _wait_for_version(url: str, version: int) -> float:
    """Waits until a version is served; gives the seconds."""
    begun = time.monotonic()
    while True:
        try:
            if _served(url) == version:
                return time.monotonic() - begun
        except (httpx.HTTPError, KeyError, ValueError):
            pass
        if time.monotonic() - begun > _READY_SECONDS:
            raise RuntimeError(f"version {version} is not served within {_READY_SECONDS:g} s")
        time.sleep(0.2)


def _swap(small: Path, large: Path, body: Path, rate: float, folder: Path) -> tuple[Load, list[float]]:
    """Pushes the large version and the small one again under load; gives that, and the seconds until each is served."""
    base = folder / "models" / MODEL
    shutil.copytree(small, base / "1")
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    ports = ["--port", str(port), "--rest-port", str(free_port()), "--grpc-port", str(free_port())]
    settings = folder / "gateway.yaml"
    settings.write_text("limits: {rate: ''}\n", encoding="utf-8")
    options = ["--model-base-path", str(base), "--gateway-config", str(settings), "--development", *ports]
    log = (folder / "serve.log").open("wb")
    server = subprocess.Popen([*python_module("adclick", "serve"), *options], cwd=ROOT, stdout=log, stderr=log)
    waits: list[float] = []
    seconds = 0.0
    try:
        _wait_for_version(url, 1)

        def push() -> None:
            time.sleep(_QUIET_SECONDS)
            for number, version in ((2, large), (3, small)):
                _push(version, base, number)
                waits.append(_wait_for_version(url, number))
                print(f"  version {number} is served after {waits[-1]:.1f} s", flush=True)
                time.sleep(_QUIET_SECONDS)
            done.set()

        done = threading.Event()
        pushing = threading.Thread(target=push, daemon=True)
        # The load ends by itself; it is long enough for two slow loads.
        seconds = 90.0
        arguments = ["--body", str(body), "--rate", str(rate), "--seconds", str(seconds)]
        command = python_module("benchmarks.load", f"{url}/v1/score", *arguments)
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
            pushing.start()
            output, _ = process.communicate(timeout=seconds + 120)
        if not done.is_set():
            raise RuntimeError("the load ended before both versions were served: the machine is too slow")
        return Load(**json.loads(output)), waits
    finally:
        server.terminate()
        server.wait(60)
        log.close()


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
        known, more_known = _load(small), _load(large)
        print(f"  loaded: {known.seconds:.1f} s and {more_known.seconds:.1f} s", flush=True)
        body = folder / "scores.jsonl"
        rows = held_out_rows(project, 1_000)
        body.write_text("".join(json.dumps(as_scores([row])) + "\n" for row in rows), encoding="utf-8")
        met, waits = _swap(small, large, body, arguments.rate, folder)
    print(f"answers by status: {met.statuses}; without an answer: {met.dropped}", flush=True)
    title = f"{arguments.creatives:,} creatives more"
    added = more_known.bytes - known.bytes
    report(
        "Served creatives",
        [
            Result(f"{title}: load", more_known.seconds, 10.0, "s", more_known.seconds / 10.0, "<= 1"),
            Result(f"{title}: memory added", added / 2**20, 400.0, "MiB", added / 2**20 / 400.0, "<= 1"),
            Result(
                f"{title}: load, against the version without",
                more_known.seconds,
                known.seconds,
                "s",
                more_known.seconds / known.seconds,
                "",
            ),
            Result(
                f"{title}: from push to served, against the version without",
                waits[0],
                waits[1],
                "s",
                waits[0] / waits[1],
                "",
            ),
            Result(f"{title}: failed requests while pushed", met.failed, met.requests, "requests", met.failed, "<= 0"),
            Result("latency meanwhile: p99 against p50", met.p99_ms, met.p50_ms, "ms", met.p99_ms / met.p50_ms, ""),
        ],
        arguments.json,
    )


if __name__ == "__main__":
    main()
