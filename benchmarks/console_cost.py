"""What the console's data costs the ad API: the tally of traffic, and a comparison of 20 ads meanwhile.

    python -m benchmarks.console_cost [--project FOLDER] [--seconds S] [--json FILE]

The tally of a request of one ad is timed alone, and set against the processor time that the gateway spends on such a
request at saturation. A comparison of 20 images over the audience of the version runs again and again under an open
loop at a tenth of the saturation, whose 99th percentile is set against that of the same load without it.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import os
import tempfile
import threading
import time
from pathlib import Path

import httpx
import numpy as np
from PIL import Image

from adclick.serving.gateway.traffic import Traffic
from benchmarks.measure import Result, report, share
from benchmarks.serving import MODEL, Server, as_scores, gateway, held_out_rows, prepare_project, saturation, usual_load

_ROWS = 2_000
_NOTES = 200_000
_IMAGES = 20
_IMAGE_PIXELS = 256


def tally_seconds() -> float:
    """The time to tally one request of one ad with an image."""
    traffic = Traffic(0.0)
    statuses, versions = ["ok"], {1_790_000_000}
    begin = time.perf_counter()
    for _ in range(_NOTES):
        traffic.note_images(1_790_000_000, statuses)
        traffic.note_ads(1_790_000_000, 1)
        traffic.note_answer("score", 200, 0.004, versions)
    return (time.perf_counter() - begin) / _NOTES


def processor_seconds(server: Server) -> float:
    """What a server's process has spent so far."""
    fields = Path(f"/proc/{server.process.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def comparison_body() -> bytes:
    """A comparison of random images, none of which the model has seen."""
    random = np.random.default_rng(1)
    ads = []
    for _ in range(_IMAGES):
        pixels = random.integers(0, 256, (_IMAGE_PIXELS, _IMAGE_PIXELS, 3), np.uint8)
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "PNG")
        ads.append({"image": {"b64": base64.b64encode(file.getvalue()).decode()}})
    return json.dumps({"ads": ads}).encode()


class Comparisons:
    """Compares again and again until it is told to stop.

    Attributes:
        seconds: What each comparison took.
    """

    def __init__(self, url: str, body: bytes) -> None:
        self.seconds: list[float] = []
        self._url, self._body = url, body
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def compare(self) -> None:
        """Compares once."""
        begin = time.perf_counter()
        answer = httpx.post(f"{self._url}/console/api/compare", content=self._body, trust_env=False, timeout=300)
        answer.raise_for_status()
        self.seconds.append(time.perf_counter() - begin)

    def _run(self) -> None:
        while not self._is_over.is_set():
            self.compare()

    def __enter__(self) -> Comparisons:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join(300)


def measure(project: Path, folder: Path, seconds: float) -> list[Result]:
    """Measures both against a gateway of its own."""
    base = project / "output" / "serving_model" / MODEL
    requests = folder / "one-score.jsonl"
    rows = held_out_rows(project, _ROWS)
    requests.write_text("".join(json.dumps(as_scores([row])) + "\n" for row in rows), encoding="utf-8")
    with gateway(base, folder) as server:
        url = f"{server.url}/v1/score"
        saturation(url, requests, 1.0)
        spent = processor_seconds(server)
        full = saturation(url, requests, seconds)
        # The second of warming up is asked as fast.
        answered = full.requests * (seconds + 1.0) / seconds
        of_request = (processor_seconds(server) - spent) / answered
        tally = tally_seconds()
        rate = full.rate / 10
        alone = usual_load(url, requests, rate, seconds)
        body = comparison_body()
        first = Comparisons(server.url, body)
        first.compare()
        with Comparisons(server.url, body) as comparisons:
            meanwhile = usual_load(url, requests, rate, seconds)
    return [
        share("tally of a request, of its processor time", tally, of_request, "s", "<= 0.01"),
        share(f"p99 at {rate:,.0f} requests/s beside comparisons", meanwhile.p99_ms, alone.p99_ms, "ms", ""),
        share(
            f"comparison of {_IMAGES} new images beside that load, against the first alone",
            float(np.median(comparisons.seconds)),
            first.seconds[0],
            "s",
            "",
        ),
    ]


def main() -> None:
    """Runs the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--project", type=Path, help="the folder of a finished run; made if left out")
    parser.add_argument("--seconds", type=float, default=10.0, help="how long each load lasts")
    parser.add_argument("--json", type=Path, help="where the results go")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="adclick-console-") as name:
        folder = Path(name)
        project = arguments.project or prepare_project(folder / "project")
        results = measure(project, folder, arguments.seconds)
    report("What the console costs the API", results, arguments.json)


if __name__ == "__main__":
    main()
