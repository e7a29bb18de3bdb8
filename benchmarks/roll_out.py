"""Failed requests while the model servers behind a gateway are replaced: restarts, deletions by force, a push.

    python -m benchmarks.roll_out [--project FOLDER] [--rate N] [--seconds S] [--restarts N] [--json FILE]

Runs what `deploy/kubernetes` deploys, as processes of this machine: model servers with the Deployment's flags, and a
gateway with the ConfigMap's settings that asks them over gRPC. Between them stands a port that does what kube-proxy
does: each new connection goes to one of the ready servers, and ends with its server. A restart is the Deployment's:
a new server is started; once it is ready, an old one gets no new connections, five seconds later SIGTERM, and thirty
later SIGKILL. Deleted by force is the server that the gateway uses: it gets SIGKILL, and is found to be missing a
second later. A push is a new version in the servers' folder. Meanwhile requests for scores come in an open loop.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import functools
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import yaml

from benchmarks.load import Load
from benchmarks.measure import ROOT, Result, python_module, report
from benchmarks.serving import MODEL, as_scores, free_port, held_out_rows, prepare_project

_KUBERNETES = ROOT / "deploy" / "kubernetes" / "base"
_READY_SECONDS = 180.0
_POLL_SECONDS = 0.5
_REPLICAS = 2
#: Between the end of a server and its leaving the Service's endpoints.
_NOTICED_SECONDS = 1.0
_PROGRESS_SECONDS = 10.0
_RETRIES = re.compile(r'^adclick_gateway_model_server_retries_total\{outcome="(\w+)"\} (\S+)$', re.MULTILINE)


@dataclass(eq=False)
class Replica:
    """A model server.

    Attributes:
        process: Its process.
        grpc_port: Where its gRPC API answers.
        rest_port: Where its REST API answers.
        connections: The connections to it.
    """

    process: subprocess.Popen[bytes]
    grpc_port: int
    rest_port: int
    connections: int = 0

    def is_ready(self, version: int | None = None) -> bool:
        """What the Deployment's probe finds; or whether a version is served.

        Raises:
            RuntimeError: It has ended.
        """
        if self.process.poll() is not None:
            raise RuntimeError(f"a model server ended with {self.process.returncode}")
        with contextlib.suppress(httpx.HTTPError):
            place = f"{MODEL}/metadata" if version is None else f"{MODEL}/versions/{version}/metadata"
            address = f"http://127.0.0.1:{self.rest_port}/v1/models/{place}"
            return httpx.get(address, trust_env=False, timeout=30).status_code == 200
        return False


class Service:
    """A port that leads each new connection to one of its endpoints, as kube-proxy does."""

    def __init__(self) -> None:
        self.endpoints: tuple[Replica, ...] = ()
        self.port = 0
        self._loop = asyncio.new_event_loop()
        self._listening = threading.Event()
        threading.Thread(target=self._run, name="service", daemon=True).start()
        if not self._listening.wait(10):
            raise RuntimeError("the service does not listen")

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._lead, "127.0.0.1", 0))
        self.port = server.sockets[0].getsockname()[1]
        self._listening.set()
        self._loop.run_forever()

    async def _lead(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            replica = random.choice(self.endpoints)
            to_replica = await asyncio.open_connection("127.0.0.1", replica.grpc_port)
        except (OSError, IndexError):
            writer.transport.abort()
            return
        replica.connections += 1
        try:
            await asyncio.gather(_pass_on(reader, to_replica[1]), _pass_on(to_replica[0], writer))
        finally:
            replica.connections -= 1


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
        writer.close()
    except OSError:
        writer.transport.abort()


@dataclass
class Cluster:
    """The replicas, the service and the gateway."""

    folder: Path
    service: Service = field(default_factory=Service)
    replicas: list[Replica] = field(default_factory=list)
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    gateway_url: str = ""

    def __post_init__(self) -> None:
        with (_KUBERNETES / "tensorflow-serving.yaml").open(encoding="utf-8") as stream:
            (deployment,) = (part for part in yaml.safe_load_all(stream) if part["kind"] == "Deployment")
        pod = deployment["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        self._flags = list(map(str, container["args"]))
        self._grace_seconds = float(pod["terminationGracePeriodSeconds"])
        self._withdrawn_seconds = float(container["lifecycle"]["preStop"]["exec"]["command"][-1])
        for name in ("models.config", "monitoring.config"):
            text = (_KUBERNETES / "config" / name).read_text(encoding="utf-8")
            (self.folder / name).write_text(text.replace("/models/", f"{self.folder}/models/"), encoding="utf-8")

    def _start(self, name: str, command: list[str]) -> subprocess.Popen[bytes]:
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
        with (self.folder / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(command, cwd=self.folder, env=environment, stdout=log, stderr=log)
        self.processes.append(process)
        return process

    def start_replica(self) -> Replica:
        """Starts a model server, which is not ready yet."""
        grpc_port, rest_port = free_port(), free_port()
        places = {
            "/etc/tensorflow-serving": str(self.folder),
            "--port=8500": f"--port={grpc_port}",
            "=8501": f"={rest_port}",
        }
        flags = []
        for flag in self._flags:
            for deployed, here in places.items():
                flag = flag.replace(deployed, here)
            flags.append(flag)
        name = f"model-server-{len(self.processes)}"
        process = self._start(name, [str(Path(sys.executable).parent / "tensorflow_model_server"), *flags])
        return Replica(process, grpc_port, rest_port)

    def add(self, replica: Replica) -> None:
        """Makes a model server an endpoint once it is ready."""
        _wait_for("a model server is ready", replica.is_ready)
        self.replicas.append(replica)
        self.service.endpoints += (replica,)

    def withdraw(self, replica: Replica) -> None:
        """Gives a model server no new connections."""
        self.service.endpoints = tuple(one for one in self.service.endpoints if one is not replica)

    def restart(self) -> None:
        """Replaces the oldest model server, as a roll-out does."""
        self.add(self.start_replica())
        old = self.replicas.pop(0)
        self.withdraw(old)
        time.sleep(self._withdrawn_seconds)
        old.process.terminate()
        try:
            old.process.wait(self._grace_seconds)
        except subprocess.TimeoutExpired:
            print(f"  a model server had to be killed after {self._grace_seconds:g} s", flush=True)
            old.process.kill()
            old.process.wait(60)

    def delete_by_force(self) -> None:
        """Kills the model server that is used, and starts another."""
        used = max(self.replicas, key=lambda replica: replica.connections)
        self.replicas.remove(used)
        used.process.kill()
        time.sleep(_NOTICED_SECONDS)
        self.withdraw(used)
        used.process.wait(60)
        self.add(self.start_replica())

    def push(self) -> None:
        """Pushes the newest version once more under the next number."""
        base = self.folder / "models" / MODEL
        newest = max(int(version.name) for version in base.iterdir())
        shutil.copytree(base / str(newest), self.folder / "pushed")
        (self.folder / "pushed").rename(base / str(newest + 1))
        for replica in self.replicas:
            _wait_for("the pushed version is served", functools.partial(replica.is_ready, newest + 1))

    def start_gateway(self) -> None:
        """Starts the gateway and waits until it is ready."""
        settings = yaml.safe_load((_KUBERNETES / "config" / "gateway.yaml").read_text(encoding="utf-8"))
        settings["backend"] |= {
            "address": f"127.0.0.1:{self.service.port}",
            "model_base_path": str(self.folder / "models" / MODEL),
        }
        del settings["security"], settings["log"]
        path = self.folder / "gateway.yaml"
        path.write_text(yaml.safe_dump(settings), encoding="utf-8")
        port = free_port()
        options = ["serve", "--gateway-config", str(path), "--port", str(port), "--development"]
        process = self._start("gateway", [str(Path(sys.executable).parent / "adclick"), *options])
        self.gateway_url = f"http://127.0.0.1:{port}"

        def is_ready() -> bool:
            if process.poll() is not None:
                raise RuntimeError(f"the gateway ended with {process.returncode}")
            return httpx.get(f"{self.gateway_url}/readyz", trust_env=False, timeout=5).status_code == 200

        _wait_for("the gateway is ready", is_ready)

    def retries(self) -> dict[str, int]:
        """The gateway's retries so far, by their outcome."""
        text = httpx.get(f"{self.gateway_url}/metrics", trust_env=False, timeout=60).text
        return {outcome: int(float(count)) for outcome, count in _RETRIES.findall(text)}

    def close(self) -> None:
        """Ends every process."""
        for process in self.processes:
            process.kill()
            process.wait(60)


def _wait_for(what: str, condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _READY_SECONDS
    while True:
        with contextlib.suppress(httpx.HTTPError):
            if condition():
                return
        if time.monotonic() > deadline:
            raise RuntimeError(f"in {_READY_SECONDS:g} s not so: {what}")
        time.sleep(_POLL_SECONDS)


@contextlib.contextmanager
def cluster(base: Path, folder: Path) -> Iterator[Cluster]:
    """Runs the replicas and the gateway for the length of a `with` block, which begins when all are ready."""
    shutil.copytree(base, folder / "models" / MODEL)
    started = Cluster(folder)
    try:
        for replica in [started.start_replica() for _ in range(_REPLICAS)]:
            started.add(replica)
        started.start_gateway()
        yield started
    finally:
        started.close()


def _shuffled(restarts: int, deletions: int) -> list[str]:
    """The events, the rarer ones spread among the restarts."""
    events = ["restart"] * restarts
    rare = ["push", *["delete by force"] * deletions]
    for number, event in enumerate(rare):
        events.insert((number + 1) * (restarts + len(rare)) // (len(rare) + 1), event)
    return events


def measure(
    running: Cluster, body: Path, rate: float, seconds: float, events: list[str]
) -> tuple[Load, dict[str, int]]:
    """Loads the gateway while the events happen.

    Raises:
        RuntimeError: The load ended before the last of them: the machine is too slow for the length of the load.
    """
    arguments = ["--body", str(body), "--rate", str(rate), "--seconds", str(seconds)]
    command = python_module("benchmarks.load", f"{running.gateway_url}/v1/score", *arguments)
    what: dict[str, Callable[[], Any]] = {
        "restart": running.restart,
        "delete by force": running.delete_by_force,
        "push": running.push,
    }
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        start = time.monotonic()
        try:
            for number, event in enumerate(events):
                due = start + seconds * (number + 0.5) / (len(events) + 1)
                time.sleep(max(0.0, due - time.monotonic()))
                begun = time.monotonic() - start
                what[event]()
                if process.poll() is not None:
                    raise RuntimeError("the load ended before the last event: give more --seconds")
                print(
                    f"  {begun:4.0f} s to {time.monotonic() - start:4.0f} s: {event}; retries {running.retries()}; "
                    f"load of the machine {os.getloadavg()[0]:.1f}",
                    flush=True,
                )
            output, _ = process.communicate(timeout=seconds + 60)
        finally:
            process.kill()
    return Load(**json.loads(output)), running.retries()


def main() -> None:
    """Runs the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--project", type=Path, help="the folder of a finished run; made if left out")
    parser.add_argument("--rate", type=float, default=200.0, help="requests for each second")
    parser.add_argument("--seconds", type=float, default=300.0, help="how long the load lasts")
    parser.add_argument("--restarts", type=int, default=10)
    parser.add_argument("--deletions", type=int, default=2, help="model servers that are deleted by force")
    parser.add_argument("--json", type=Path, help="where the results go")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="adclick-roll-out-") as name:
        folder = Path(name)
        project = arguments.project or prepare_project(folder / "project")
        body = folder / "scores.jsonl"
        rows = held_out_rows(project, 1_000)
        body.write_text("".join(json.dumps(as_scores([row])) + "\n" for row in rows), encoding="utf-8")
        events = _shuffled(arguments.restarts, arguments.deletions)
        with cluster(project / "output" / "serving_model" / MODEL, folder) as running:
            met, retries = measure(running, body, arguments.rate, arguments.seconds, events)
    print(f"answers by status: {met.statuses}; without an answer: {met.dropped}; retries: {retries}", flush=True)
    title = (
        f"{arguments.rate:g} requests/s for {arguments.seconds:g} s, {arguments.restarts} restarts, "
        f"{arguments.deletions} deletions by force, a push"
    )
    asked_again = sum(retries.values())
    report(
        "Roll-out",
        [
            Result(f"{title}: failed requests", met.failed, met.requests, "requests", met.failed, "<= 0"),
            Result("asked again by the gateway", asked_again, met.requests, "requests", asked_again / met.requests, ""),
            Result("latency: p99 against p50", met.p99_ms, met.p50_ms, "ms", met.p99_ms / met.p50_ms, ""),
            Result("latency: the longest against p50", met.most_ms, met.p50_ms, "ms", met.most_ms / met.p50_ms, ""),
        ],
        arguments.json,
    )


if __name__ == "__main__":
    main()
