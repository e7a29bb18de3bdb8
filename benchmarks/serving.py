"""Serving: the model server and the gateway under load, against the obvious server.

    python -m benchmarks.serving [--project FOLDER] [--seconds S] [--requests N] [--json FILE]

Serves the model of a finished run (or of one that is made for this, on sample data) and loads it from a process of its
own. Saturation is what 64 clients get that each wait for their answer; the baseline is `benchmarks.obvious_server` on
the same model under the same load. Latencies are of an open loop at half of the saturation, the middle one of three
loads. Versions are pushed, broken and rolled back under an open loop at a quarter of it. Memory is the server's
resident size.
"""

from __future__ import annotations

import argparse
import contextlib
import glob
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from benchmarks.load import Load
from benchmarks.measure import ROOT, Result, more, python_module, report

MODEL = "adclick"
PREDICT = f"/v1/models/{MODEL}:predict"
_SERVED_WITHIN_SECONDS = 30
_CLIENTS = 64
_MANY_ADS = 100
_LEAST_ADS = 20_000
_START_SECONDS = 120.0


@dataclass(frozen=True)
class Server:
    """A server process.

    Attributes:
        process: The process.
        url: Where it answers.
        grpc_port: Where its gRPC API answers; 0 if it has none.
    """

    process: subprocess.Popen[bytes]
    url: str
    grpc_port: int = 0

    def resident_bytes(self) -> int:
        """Its resident size."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text(encoding="utf-8").splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise RuntimeError("the server has ended")


def prepare_project(folder: Path) -> Path:
    """Generates sample data and pushes a model trained on it; returns the project's folder."""
    adclick = [*python_module("adclick")]
    subprocess.run([*adclick, "sample-data", "--output", str(folder), "--quiet"], cwd=ROOT, check=True)
    command = [*adclick, "run", "--config", str(folder / "config.yaml"), "--quiet"]
    subprocess.run(command, cwd=ROOT, check=True)
    return folder


def held_out_rows(project: Path, count: int) -> list[dict[str, Any]]:
    """Requests for the newest month's held-out impressions."""
    import tensorflow as tf

    from adclick.models.requests import requests_from_examples
    from adclick.pipeline.config.settings import load_config

    features = load_config(project / "config.yaml").features
    pattern = str(project / "output" / "pipeline_root" / "AdExampleGen-*" / "examples" / "*" / "Split-eval" / "*")
    newest = sorted(glob.glob(pattern))[::-1]
    records = [
        record.numpy()
        for file in newest
        for record in tf.data.TFRecordDataset(file, "GZIP" if file.endswith(".gz") else "").take(count)
    ]
    return requests_from_examples(records[:count], features)


def free_port() -> int:
    """A port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def running(command: Sequence[str], url: str, ready_path: str, grpc_port: int = 0) -> Iterator[Server]:
    """Runs a server process for the length of a `with` block, which begins when it answers 200 at a path."""
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + _START_SECONDS
        while True:
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(f"{url}{ready_path}", trust_env=False).status_code == 200:
                    break
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{' '.join(command)} did not start")
            time.sleep(0.1)
        yield Server(process, url, grpc_port)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


@contextlib.contextmanager
def model_server(base: Path) -> Iterator[Server]:
    """Our model server, as `adclick serve --models-only` runs it, with batching."""
    port, grpc_port = free_port(), free_port()
    flags = [f"--port={grpc_port}", f"--rest_api_port={port}", f"--model_name={MODEL}", f"--model_base_path={base}"]
    command = python_module("adclick.serving.model_server.command", *flags, "--enable_batching")
    with running(command, f"http://127.0.0.1:{port}", f"/v1/models/{MODEL}/metadata", grpc_port) as server:
        yield server


@contextlib.contextmanager
def obvious_server(base: Path) -> Iterator[Server]:
    """The baseline, on the newest version."""
    version = max(base.iterdir(), key=lambda folder: int(folder.name))
    port = free_port()
    command = python_module("benchmarks.obvious_server", str(version), str(port))
    with running(command, f"http://127.0.0.1:{port}", "/openapi.json") as server:
        yield server


@contextlib.contextmanager
def gateway(base: Path, folder: Path) -> Iterator[Server]:
    """Our gateway with the models in its process, as `adclick serve` runs it, its access log written to nowhere."""
    port, rest_port, grpc_port = free_port(), free_port(), free_port()
    settings = folder / "gateway.yaml"
    settings.write_text('limits: {rate: ""}\n', encoding="utf-8")
    options = [f"--port={port}", f"--rest-port={rest_port}", f"--grpc-port={grpc_port}", "--development"]
    paths = [f"--model-base-path={base}", f"--gateway-config={settings}"]
    command = python_module("adclick", "serve", *paths, *options)
    with running(command, f"http://127.0.0.1:{port}", "/readyz", grpc_port) as server:
        yield server


def as_scores(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The rows as one request to the gateway: what is of the ad in each ad, the rest of the first row as context."""
    of_ads = ("ad_", "campaign_", "advertiser_", "image")
    return {
        "context": {name: value for name, value in rows[0].items() if not name.startswith(of_ads)},
        "ads": [{name: value for name, value in row.items() if name.startswith(of_ads)} for row in rows],
    }


def load(url: str, body: Path, *arguments: str) -> Load:
    """Loads a server from a process of its own."""
    command = python_module("benchmarks.load", url, "--body", str(body), *arguments)
    return Load(**json.loads(subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout))


def saturation(url: str, body: Path, seconds: float) -> Load:
    """What a server gives to clients that ask without a pause, after a second to warm up."""
    load(url, body, "--clients", str(_CLIENTS), "--seconds", "1")
    return load(url, body, "--clients", str(_CLIENTS), "--seconds", str(seconds))


def usual_load(url: str, body: Path, rate: float, seconds: float) -> Load:
    """An open loop at a rate: of three loads, the one with the middle 99th percentile.

    One pause of a virtual machine's host of some tens of milliseconds decides the 99th percentile of a whole load.
    """
    loads = [load(url, body, "--rate", str(rate), "--seconds", str(seconds)) for _ in range(3)]
    _must_be_clean(*loads)
    return sorted(loads, key=lambda one: one.p99_ms)[1]


def measure_throughput(project: Path, base: Path, folder: Path, seconds: float) -> list[Result]:
    """One ad and many ads a request, against the obvious server."""
    rows = held_out_rows(project, 20 * _MANY_ADS)
    one, many = folder / "one.jsonl", folder / "many.jsonl"
    one.write_text("".join(json.dumps({"instances": [row]}) + "\n" for row in rows), encoding="utf-8")
    groups = [rows[start : start + _MANY_ADS] for start in range(0, len(rows), _MANY_ADS)]
    many.write_text("".join(json.dumps({"instances": group}) + "\n" for group in groups), encoding="utf-8")
    with obvious_server(base) as server:
        obvious = saturation(f"{server.url}/predict", one, seconds)
        obvious_many = saturation(f"{server.url}/predict", many, seconds)
    with model_server(base) as server:
        ours = saturation(server.url + PREDICT, one, seconds)
        half = usual_load(server.url + PREDICT, one, ours.rate / 2, seconds)
        ours_many = saturation(server.url + PREDICT, many, seconds)
    one_score, many_scores = folder / "one-score.jsonl", folder / "many-scores.jsonl"
    one_score.write_text("".join(json.dumps(as_scores([row])) + "\n" for row in rows), encoding="utf-8")
    many_scores.write_text("".join(json.dumps(as_scores(group)) + "\n" for group in groups), encoding="utf-8")
    with gateway(base, folder) as server:
        scored = saturation(f"{server.url}/v1/score", one_score, seconds)
        scored_half = usual_load(f"{server.url}/v1/score", one_score, scored.rate / 2, seconds)
        scored_many = saturation(f"{server.url}/v1/score", many_scores, seconds)
    _must_be_clean(obvious, ours, ours_many, obvious_many, scored, scored_many)
    return [
        more("gateway, 1 ad a request, saturation", scored.rate, obvious.rate, "requests/s", ">= 4"),
        _tail("gateway", scored_half),
        more(
            f"gateway, {_MANY_ADS} ads a request, against the bound",
            scored_many.rate * _MANY_ADS,
            _LEAST_ADS,
            "ads/s",
            ">= 1",
        ),
        more("model server, 1 ad a request, saturation", ours.rate, obvious.rate, "requests/s", ">= 4"),
        _tail("model server", half),
        more(
            f"model server, {_MANY_ADS} ads a request, saturation",
            ours_many.rate * _MANY_ADS,
            obvious_many.rate * _MANY_ADS,
            "ads/s",
            "",
        ),
        more(
            f"model server, {_MANY_ADS} ads a request, the bound", ours_many.rate * _MANY_ADS, 20_000, "ads/s", ">= 1"
        ),
    ]


def _tail(name: str, half: Load) -> Result:
    title = f"{name}, 1 ad, {half.rate:,.0f} requests/s: p99 against p50"
    return Result(title, half.p99_ms, half.p50_ms, "ms", half.p99_ms / half.p50_ms, "<= 5")


def measure_life(project: Path, base: Path, folder: Path, seconds: float) -> list[Result]:
    """Failed requests while a version is pushed, a broken one is pushed, and the newest is removed."""
    rows = held_out_rows(project, 100)
    body = folder / "life.jsonl"
    body.write_text("".join(json.dumps({"instances": [row]}) + "\n" for row in rows), encoding="utf-8")
    copy = folder / "versions"
    shutil.copytree(base, copy)
    newest = max(int(version.name) for version in copy.iterdir())

    def push(version: int) -> None:
        partial = folder / f"partial-{version}"
        shutil.copytree(copy / str(newest), partial)
        partial.rename(copy / str(version))

    def push_broken(version: int) -> None:
        push(version)
        (copy / str(version) / "saved_model.pb").write_bytes(b"broken")

    def roll_back() -> None:
        for version in (newest + 2, newest + 1):
            shutil.rmtree(copy / str(version))

    steps: list[tuple[str, Callable[[], None]]] = [
        ("a new version is pushed", lambda: push(newest + 1)),
        ("a broken version is pushed", lambda: push_broken(newest + 2)),
        ("the newest is rolled back", roll_back),
    ]
    results = []
    with model_server(copy) as server:
        rate = saturation(server.url + PREDICT, body, seconds).rate / 4
        for name, step in steps:
            arguments = ["--body", str(body), "--rate", str(rate), "--seconds", str(seconds)]
            command = python_module("benchmarks.load", server.url + PREDICT, *arguments)
            process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
            time.sleep(seconds / 4)
            step()
            output, _ = process.communicate()
            met = Load(**json.loads(output))
            results.append(Result(f"{name}: failed requests", met.failed, met.requests, "requests", met.failed, "<= 0"))
        _wait_until_served(server.url, newest)
    return results


def _wait_until_served(url: str, version: int) -> None:
    """Waits for a version to be the only one available: a short load ends before an older one is loaded again."""
    deadline = time.monotonic() + _SERVED_WITHIN_SECONDS
    while True:
        states = httpx.get(f"{url}/v1/models/{MODEL}", trust_env=False).json()["model_version_status"]
        served = [int(status["version"]) for status in states if status["state"] == "AVAILABLE"]
        if served == [version]:
            return
        if time.monotonic() > deadline:
            raise RuntimeError(f"version {version} should be served, not {served}: {states}")
        time.sleep(0.2)


def measure_endurance(project: Path, base: Path, folder: Path, requests: int) -> list[Result]:
    """Malformed requests, and memory over many good ones."""
    import grpc
    import numpy as np
    from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

    from adclick.serving.model_server.tensor_proto import proto_from_array
    from benchmarks.malformed import grpc_requests, rest_requests

    rows = held_out_rows(project, 100)
    body = folder / "endurance.jsonl"
    body.write_text("".join(json.dumps({"instances": [row]}) + "\n" for row in rows), encoding="utf-8")
    refused, accepted = 0, 0
    with model_server(base) as server, httpx.Client(base_url=server.url, trust_env=False) as client:
        load(server.url + PREDICT, body, "--clients", "32", "--seconds", "3")
        before_malformed = server.resident_bytes()
        for request in rest_requests(PREDICT, rows[0], 500):
            answer = client.request(request.method, request.path, content=request.body, headers=request.headers)
            refused += 400 <= answer.status_code < 500
            accepted += not 400 <= answer.status_code < 500
        good = predict_pb2.PredictRequest()
        good.model_spec.name = MODEL
        for name, value in rows[0].items():
            array = np.array([value.encode() if isinstance(value, str) else value], object)
            if not isinstance(value, str):
                array = np.array([value], np.int64 if isinstance(value, int) else np.float32)
            good.inputs[name].CopyFrom(proto_from_array(array))
        faults = {"INVALID_ARGUMENT", "NOT_FOUND", "FAILED_PRECONDITION"}
        with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
            stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
            stub.Predict(good)
            for _, malformed in grpc_requests(good, 500):
                try:
                    stub.Predict(malformed)
                    accepted += 1
                except grpc.RpcError as refusal:
                    is_refusal = refusal.code().name in faults
                    refused += is_refusal
                    accepted += not is_refusal
        after_malformed = server.resident_bytes()
        seconds = 0.0
        sent = 0
        start = server.resident_bytes()
        while sent < requests:
            part = load(server.url + PREDICT, body, "--clients", "32", "--seconds", "5")
            _must_be_clean(part)
            sent += part.requests
            seconds += part.seconds
        end = server.resident_bytes()
    mebibyte = 2**20
    return [
        Result("malformed requests not refused", accepted, refused + accepted, "requests", accepted, "<= 0"),
        Result(
            "memory after them against before",
            after_malformed / mebibyte,
            before_malformed / mebibyte,
            "MiB",
            after_malformed / before_malformed,
            "<= 1.05",
        ),
        Result(
            f"memory after {sent:,} more requests against before",
            end / mebibyte,
            start / mebibyte,
            "MiB",
            end / start,
            "<= 1.05",
        ),
    ]


def _must_be_clean(*loads: Load) -> None:
    for met in loads:
        if met.failed:
            raise RuntimeError(f"requests failed: {met}")


def main() -> None:
    """Runs the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--project", type=Path, help="the folder of a finished run; made if left out")
    parser.add_argument("--seconds", type=float, default=10.0, help="how long each load lasts")
    parser.add_argument("--requests", type=int, default=100_000, help="requests over which memory is watched")
    parser.add_argument("--json", type=Path, help="where the results go")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="adclick-serving-") as name:
        folder = Path(name)
        project = arguments.project or prepare_project(folder / "project")
        base = project / "output" / "serving_model" / MODEL
        results = [
            *measure_throughput(project, base, folder, arguments.seconds),
            *measure_life(project, base, folder, arguments.seconds),
            *measure_endurance(project, base, folder, arguments.requests),
        ]
    report("Serving", results, arguments.json)


if __name__ == "__main__":
    main()
