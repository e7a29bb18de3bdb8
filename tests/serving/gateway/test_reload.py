"""A change of the settings under load: each request is answered by the settings before or after, by no mixture."""

from __future__ import annotations

import http.client
import json
import shutil
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import yaml

from adclick.serving.gateway.server import RunningGateway, running_gateway
from adclick.serving.gateway.settings import load_settings
from adclick.serving.model_server.configuration import BatchingOptions, Choice, ModelConfig, VersionPolicy
from adclick.serving.model_server.dataplane import ServerOptions
from adclick.serving.model_server.server import Endpoints, create_model_server, listening
from tests.models.tiny_model import TinyModel
from tests.serving.gateway.conftest import FIRST, SECOND
from tests.serving.gateway.test_operation import wait_for

SECONDS = 120.0
RELOADS = 12
#: Route, version and the most ads of a request, which differ in all three.
OLD, NEW = ("old", FIRST, 2), ("new", SECOND, 3)


@pytest.fixture(autouse=True)
def looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adclick.serving.gateway.gateway._REFRESH_SECONDS", 0.02)


class SettingsFile:
    """The gateway's settings, which are now one and now another."""

    def __init__(self, path: Path, base: Path | str) -> None:
        self.path = path
        self._base = base

    def write(self, route: str, version: int, ads: int) -> None:
        routing = {
            "routes": [{"name": route, "percent": 100, "label": route}],
            "labels": {route: version},
        }
        document = {
            "backend": {"model_base_path": str(self._base), "timeout_seconds": SECONDS},
            "routing": routing,
            "limits": {"rate": "", "ads": ads},
            "log": {"access": False},
        }
        whole = self.path.with_suffix(".new")
        whole.write_text(yaml.safe_dump(document))
        whole.replace(self.path)


@pytest.fixture(scope="module")
def base(tiny_model: TinyModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("reload")
    for version in (FIRST, SECOND):
        shutil.copytree(tiny_model.folder, base / str(version))
    return base


@contextmanager
def gateway(file: SettingsFile, config: ModelConfig) -> Iterator[RunningGateway]:
    """A gateway under the old settings, its models in its process."""
    file.write(*OLD)
    options = ServerOptions(
        poll_seconds=0.1, labels_unavailable_versions=True, moves_labels_to_unavailable_versions=True
    )
    server = create_model_server((config,), options, BatchingOptions())
    with (
        listening(server, Endpoints(rest_port=None)),
        running_gateway(
            load_settings(file.path), model_server=server, settings_file=file.path, is_open=True
        ) as running,
    ):
        yield running


@contextmanager
def asking(url: str, clients: int, note: Callable[[httpx.Response], None]) -> Iterator[None]:
    """Clients that ask for two and three ads in turn, without a pause, for the length of a `with` block."""
    finished = threading.Event()

    def ask() -> None:
        with httpx.Client(base_url=url, trust_env=False, timeout=SECONDS) as client:
            while not finished.is_set():
                for ads in (2, 3):
                    request = {"context": {"site": "site3"}, "ads": [{"ad": "ad0"}] * ads}
                    note(client.post("/v1/score:batch", json={"requests": [request] * 2}))

    threads = [threading.Thread(target=ask, daemon=True) for _ in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        finished.set()
        for thread in threads:
            thread.join(SECONDS)
            assert not thread.is_alive()


def test_each_answer_is_of_one_settings(base: Path, tmp_path: Path) -> None:
    # Without a push directory the gateway leaves it to the model server which versions there are: always both.
    settings_file = SettingsFile(tmp_path / "gateway.yaml", "")
    both = ModelConfig("adclick", str(base), VersionPolicy(Choice.ALL), {"old": FIRST, "new": SECOND})
    met: Counter[Any] = Counter()

    def note(answer: httpx.Response) -> None:
        if answer.status_code != 200:
            error = answer.json()["error"]
            met[answer.status_code, error["message"].partition(";")[0]] += 1
            return
        for response in answer.json()["responses"]:
            met[response["model"]["route"], response["model"]["version"], len(response["ads"])] += 1

    with gateway(settings_file, both) as running:
        with asking(running.url, 2, note):
            for reload in range(RELOADS):
                route, version, ads = (NEW, OLD)[reload % 2]
                before = met[route, version, 2]
                settings_file.write(route, version, ads)
                wait_for(lambda key=(route, version, 2), count=before: met[key] > count + 4)  # type: ignore[misc]
        metrics = httpx.get(f"{running.url}/metrics", trust_env=False).text
    assert set(met) == {
        ("old", FIRST, 2),
        ("new", SECOND, 2),
        ("new", SECOND, 3),
        (422, "Expected `array` of length <= 2"),
    }
    assert f'adclick_gateway_config_reloads_total{{outcome="taken"}} {RELOADS}.0' in metrics


def test_a_request_that_has_begun_is_answered_by_the_settings_that_it_met(base: Path, tmp_path: Path) -> None:
    # By the gateway's settings: a version that no label stands for is unloaded.
    settings_file = SettingsFile(tmp_path / "gateway.yaml", base)
    body = json.dumps({"context": {"site": "site3"}, "ads": [{"ad": "ad0"}]}).encode()
    with gateway(settings_file, ModelConfig("adclick", str(base))) as running:

        def in_flight() -> bool:
            metrics = httpx.get(f"{running.url}/metrics", trust_env=False).text
            return "adclick_gateway_requests_in_flight 1.0" in metrics

        def version() -> int:
            answer = httpx.post(f"{running.url}/v1/score", content=body, trust_env=False, timeout=SECONDS)
            return int(answer.json()["model"]["version"])

        slow = http.client.HTTPConnection(urlsplit(running.url).netloc, timeout=SECONDS)
        slow.putrequest("POST", "/v1/score")
        slow.putheader("content-type", "application/json")
        slow.putheader("content-length", str(len(body)))
        slow.endheaders(body[:5])
        wait_for(in_flight)
        settings_file.write(*NEW)
        wait_for(lambda: version() == SECOND)
        slow.send(body[5:])
        answer = slow.getresponse()
        assert answer.status == 200
        assert json.loads(answer.read())["model"] == {"name": "adclick", "version": FIRST, "route": "old"}
