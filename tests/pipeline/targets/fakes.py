"""The APIs of Vertex AI Pipelines and of Kubeflow Pipelines over real sockets, as far as submissions go."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit


@dataclass
class Request:
    """What came in."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: Any


@dataclass
class PlatformApi:
    """A server that answers as a platform's API does.

    Attributes:
        address: Where it listens, with its scheme.
        requests: What came in, in order.
        refusal: If set, the status and message with which everything is refused.
        existing: Names of schedules that there are already.
    """

    address: str = ""
    requests: list[Request] = field(default_factory=list)
    refusal: tuple[int, str] | None = None
    existing: list[str] = field(default_factory=list)

    @property
    def created(self) -> list[Request]:
        return [request for request in self.requests if request.method == "POST"]

    def answer(self, request: Request) -> tuple[int, dict[str, Any]]:
        raise NotImplementedError

    def refused(self, status: int, message: str) -> dict[str, Any]:
        raise NotImplementedError


class FakeVertex(PlatformApi):
    """`projects.locations.pipelineJobs` and `projects.locations.schedules` of Vertex AI's REST API, v1."""

    def answer(self, request: Request) -> tuple[int, dict[str, Any]]:
        parent, _, collection = request.path.removeprefix("/v1/").rpartition("/")
        if request.method == "POST" and collection == "pipelineJobs":
            name = f"{parent}/pipelineJobs/{request.query['pipelineJobId'][0]}"
            return 200, {**request.body, "name": name, "state": "PIPELINE_STATE_PENDING"}
        if request.method == "POST" and collection == "schedules":
            return 200, {**request.body, "name": f"{parent}/schedules/11"}
        if request.method == "GET" and collection == "schedules":
            asked = request.query["filter"][0]
            found = [name for name in self.existing if asked == f'display_name="{name}"']
            return 200, {"schedules": [{"name": f"{parent}/schedules/5", "displayName": name} for name in found]}
        return 404, self.refused(404, f"no such method: {request.method} {request.path}")

    def refused(self, status: int, message: str) -> dict[str, Any]:
        names = {401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "NOT_FOUND", 429: "RESOURCE_EXHAUSTED"}
        return {"error": {"code": status, "message": message, "status": names.get(status, "UNKNOWN")}}


class FakeKubeflow(PlatformApi):
    """Experiments, runs and recurring runs of Kubeflow Pipelines' REST API, v2beta1."""

    def __init__(self) -> None:
        super().__init__()
        self.experiments: list[dict[str, Any]] = []

    def answer(self, request: Request) -> tuple[int, dict[str, Any]]:
        collection = request.path.removeprefix("/apis/v2beta1/")
        if request.method == "GET" and collection == "experiments":
            name = self._asked(request)
            return 200, {"experiments": [found for found in self.experiments if found["display_name"] == name]}
        if request.method == "POST" and collection == "experiments":
            self.experiments.append({**request.body, "experiment_id": f"experiment-{len(self.experiments)}"})
            return 200, self.experiments[-1]
        if request.method == "POST" and collection == "runs":
            return 200, {**request.body, "run_id": "run-1", "state": "PENDING"}
        if request.method == "GET" and collection == "recurringruns":
            found = [name for name in self.existing if name == self._asked(request)]
            return 200, {"recurringRuns": [{"recurring_run_id": "recurring-0", "display_name": name} for name in found]}
        if request.method == "POST" and collection == "recurringruns":
            return 200, {**request.body, "recurring_run_id": "recurring-1", "status": "ENABLED"}
        if request.method == "GET" and collection == "healthz":
            return 200, {"multi_user": False}
        return 404, self.refused(404, f"no such method: {request.method} {request.path}")

    @staticmethod
    def _asked(request: Request) -> str:
        (predicate,) = json.loads(request.query["filter"][0])["predicates"]
        return str(predicate.get("stringValue", predicate.get("string_value")))

    def refused(self, status: int, message: str) -> dict[str, Any]:
        return {"error": message, "code": status, "message": message, "details": []}


@contextmanager
def serving(api: PlatformApi) -> Iterator[None]:
    """Serves an API on a free port of this machine."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: Any) -> None:
            """Says nothing."""

        def _handle(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            split = urlsplit(self.path)
            headers = {name.lower(): value for name, value in self.headers.items()}
            request = Request(
                self.command, split.path, parse_qs(split.query), headers, json.loads(body) if body else None
            )
            api.requests.append(request)
            if api.refusal is not None:
                status, answer = api.refusal[0], api.refused(*api.refusal)
            else:
                status, answer = api.answer(request)
            content = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = _handle  # noqa: N815

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    api.address = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join(60)
