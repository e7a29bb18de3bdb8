"""A model with images behind every backend that a gateway can have."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from adclick.serving.gateway.server import RunningGateway, running_gateway
from adclick.serving.gateway.settings import GatewaySettings
from adclick.serving.model_server.server import RunningServer, running_server
from tests.models.tiny_model import TinyModel

BACKENDS = ("in_process", "grpc", "rest")
FIRST, SECOND = 7, 8


@pytest.fixture(scope="session")
def base(tiny_model: TinyModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gateway") / "versions"
    shutil.copytree(tiny_model.folder, folder / str(FIRST))
    return folder


@pytest.fixture(scope="session")
def models(base: Path) -> Iterator[RunningServer]:
    with running_server(base, grpc_port=0, poll_seconds=0.1) as running:
        yield running


def settings_for(kind: str, models: RunningServer, base: Path, **sections: Any) -> GatewaySettings:
    addresses = {"in_process": "", "grpc": f"127.0.0.1:{models.grpc_port}", "rest": models.url}
    backend = {
        "kind": kind,
        "address": addresses[kind],
        "model_base_path": str(base),
        "timeout_seconds": 120,
        "explain_timeout_seconds": 120,
    }
    return GatewaySettings.model_validate({"backend": backend, "limits": {"rate": ""}, **sections})


@pytest.fixture
def gateway(models: RunningServer, base: Path) -> Iterator[Callable[..., Any]]:
    """Starts gateways: `gateway(kind, security={...}, ...)` gives one with a client."""
    with ExitStack() as stack:

        def start(kind: str = "in_process", *, is_open: bool = True, **sections: Any) -> Any:
            options = {name: sections.pop(name) for name in ("settings_file",) if name in sections}
            settings = settings_for(kind, models, base, **sections)
            running = stack.enter_context(
                running_gateway(settings, model_server=models.model_server, is_open=is_open, **options)
            )
            return running, stack.enter_context(httpx.Client(base_url=running.url, trust_env=False, timeout=150))

        yield start


__all__ = ["BACKENDS", "FIRST", "SECOND", "RunningGateway"]
