"""`tensorflow_model_server` as a process of its own, started by TensorFlow Serving's flags."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc

from tests.serving.conformance.models import save_defaults, save_half_plus, save_types

_START_SECONDS = 180.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True)
class ModelServerProcess:
    """A running server and clients of it."""

    process: subprocess.Popen[str]
    rest_port: int
    grpc_port: int
    http: httpx.Client
    prediction: Any
    models: Any


@contextmanager
def started(*flags: str, wait_path: str = "") -> Iterator[ModelServerProcess]:
    """Starts the server on free ports; the `with` block begins when it answers 200 at a path."""
    rest_port, grpc_port = free_port(), free_port()
    command = [sys.executable, "-m", "adclick.serving.model_server.command", f"--port={grpc_port}"]
    process = subprocess.Popen([*command, f"--rest_api_port={rest_port}", *flags], stderr=subprocess.DEVNULL, text=True)
    try:
        with (
            httpx.Client(base_url=f"http://127.0.0.1:{rest_port}", trust_env=False, timeout=120) as http,
            grpc.insecure_channel(f"127.0.0.1:{grpc_port}") as channel,
        ):
            deadline = time.monotonic() + _START_SECONDS
            while True:
                assert process.poll() is None, f"the server ended with {process.returncode}"
                assert time.monotonic() < deadline, "the server did not start"
                try:
                    if not wait_path or http.get(wait_path).status_code == 200:
                        http.get("/v1/models")
                        break
                except httpx.TransportError:
                    pass
                time.sleep(0.05)
            yield ModelServerProcess(
                process,
                rest_port,
                grpc_port,
                http,
                prediction_service_pb2_grpc.PredictionServiceStub(channel),
                model_service_pb2_grpc.ModelServiceStub(channel),
            )
    finally:
        process.terminate()
        process.wait(60)


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The models: half_plus_two/123, half_plus_three/124, types/1 and defaults/1."""
    folder = tmp_path_factory.mktemp("conformance")
    save_half_plus(folder / "half_plus_two" / "123", 2.0)
    save_half_plus(folder / "half_plus_three" / "124", 3.0)
    save_types(folder / "types" / "1")
    save_defaults(folder / "defaults" / "1")
    return folder


CONFIG = """
model_config_list {{
  config {{ name: "half" base_path: "{half}" model_platform: "tensorflow" model_version_policy {{ all {{}} }}
    version_labels {{ key: "stable" value: 123 }} version_labels {{ key: "canary" value: 124 }} }}
  config {{ name: "types" base_path: "{types}" model_platform: "tensorflow" }}
  config {{ name: "defaults" base_path: "{defaults}" model_platform: "tensorflow" }}
}}
"""


@pytest.fixture(scope="session")
def server(saved: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModelServerProcess]:
    """Both half-plus models as versions of `half`, with labels, and `types` and `defaults`."""
    folder = tmp_path_factory.mktemp("served")
    (folder / "half").mkdir()
    (folder / "half" / "123").symlink_to(saved / "half_plus_two" / "123")
    (folder / "half" / "124").symlink_to(saved / "half_plus_three" / "124")
    (folder / "models.config").write_text(
        CONFIG.format(half=folder / "half", types=saved / "types", defaults=saved / "defaults")
    )
    (folder / "monitoring.config").write_text("prometheus_config { enable: true }")
    flags = (
        f"--model_config_file={folder / 'models.config'}",
        f"--monitoring_config_file={folder / 'monitoring.config'}",
        f"--grpc_socket_path={folder / 'socket'}",
        "--rest_api_enable_cors_support=true",
        "--enable_grpc_healthcheck_service",
    )
    with started(*flags, wait_path="/v1/models/types/metadata") as running:
        running.process.socket_path = str(folder / "socket")  # type: ignore[attr-defined]
        yield running
