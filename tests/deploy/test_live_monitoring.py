"""A real Prometheus over the real servers, each started by the deployment's own files.

The model server runs with the flags of the Kubernetes Deployment, the gateway in an environment installed by the lines
of its Dockerfile and with the ConfigMap's settings, Prometheus with prometheus.yml; only places and ports differ. Then
every query of the dashboard must give numbers, and every metric and label of every alert must be there.
"""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from PIL import Image

from adclick.serving.gateway.security import create_api_key
from tests.deploy.conftest import DEPLOY, ROOT, documents
from tests.deploy.test_prometheus import alerts
from tests.models.tiny_model import TinyModel

pytestmark = pytest.mark.end_to_end
OLD, NEW = 7, 8
#: From kube-state-metrics, which needs a cluster.
NOT_OURS = re.compile("kube_.+")


def free_port() -> int:
    with closing(socket.socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def wait_for(what: str, condition: Callable[[], Any], seconds: float = 240) -> Any:
    deadline = time.monotonic() + seconds
    while True:
        try:
            if found := condition():
                return found
        except httpx.HTTPError:
            pass
        assert time.monotonic() < deadline, f"in {seconds:.0f} s not so: {what}"
        time.sleep(0.2)


@pytest.fixture(scope="module")
def image_environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the gateway's Dockerfile installs, made by its own commands; gives the folder of its programs."""
    folder = tmp_path_factory.mktemp("image")
    source = folder / "src"
    source.mkdir()
    text = (DEPLOY / "docker" / "gateway.Dockerfile").read_text().replace("\\\n", "")
    for line in text.splitlines():
        if line.startswith("COPY") and "--from" not in line:
            *names, target = line.split()[1:]
            for name in names:
                if (ROOT / name).is_dir():
                    shutil.copytree(ROOT / name, source / target)
                else:
                    (source / target).mkdir(exist_ok=True)
                    shutil.copy(ROOT / name, source / target)
    installs = [line.removeprefix("RUN ") for line in text.splitlines() if line.startswith("RUN uv ")]
    assert len(installs) == 2
    # UV_PYTHON would count before VIRTUAL_ENV, and change the environment that these tests run in.
    environment = {name: value for name, value in os.environ.items() if name not in ("UV_PYTHON", "UV_SYSTEM_PYTHON")}
    environment |= {
        "VIRTUAL_ENV": str(folder / "adclick"), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    }  # fmt: skip
    for command in installs:
        done = subprocess.run(
            ["bash", "-ceu", command], cwd=source, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
    return folder / "adclick" / "bin"


@dataclass
class Deployment:
    """The running servers."""

    folder: Path
    rest_port: int
    gateway_port: int
    key: str
    prometheus: httpx.Client
    gateway: subprocess.Popen[bytes]

    def query(self, expression: str) -> list[dict[str, Any]]:
        answer = self.prometheus.get("/api/v1/query", params={"query": expression})
        assert answer.status_code == 200, f"{expression}: {answer.text}"
        return list(answer.json()["data"]["result"])

    def ask(self, key: str, body: dict[str, Any], place: str = "score") -> httpx.Response:
        return httpx.post(
            f"http://127.0.0.1:{self.gateway_port}/v1/{place}",
            json=body,
            headers={"authorization": f"Bearer {key}"},
            timeout=60,
            trust_env=False,
        )


@pytest.fixture(scope="module")
def deployment(
    tiny_model: TinyModel, image_environment: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployment]:
    prometheus = shutil.which("prometheus")
    if prometheus is None:
        pytest.skip("Prometheus is not installed; Debian's package is called prometheus")
    folder = tmp_path_factory.mktemp("deployment")
    base = folder / "models"
    for version in (OLD, NEW):
        shutil.copytree(tiny_model.folder, base / "adclick" / str(version))
    grpc_port, rest_port, gateway_port, prometheus_port = (free_port() for _ in range(4))
    config = DEPLOY / "kubernetes" / "base" / "config"
    for name in ("models.config", "monitoring.config"):
        (folder / name).write_text((config / name).read_text().replace("/models/", f"{base}/"))

    manifests = documents(DEPLOY / "kubernetes/base/tensorflow-serving.yaml")
    (container,) = next(m for m in manifests if m["kind"] == "Deployment")["spec"]["template"]["spec"]["containers"]
    replaced = {"/etc/tensorflow-serving": str(folder), "--port=8500": f"--port={grpc_port}", "=8501": f"={rest_port}"}
    flags = []
    for flag in container["args"]:
        for old, new in replaced.items():
            flag = flag.replace(old, new)
        flags.append(flag)

    key, line = create_api_key("backend")
    (folder / "api-keys").write_text(f"{line}\n")
    (folder / "hash-key").write_text("secret for hashes")
    settings = yaml.safe_load((config / "gateway.yaml").read_text())
    settings["backend"] |= {
        "address": f"127.0.0.1:{grpc_port}", "model_base_path": str(base / "adclick"), "timeout_seconds": 120
    }  # fmt: skip
    settings["security"]["api_keys_file"] = "api-keys"
    settings["log"] = {"hash_key_file": "hash-key", "predictions": "predictions", "sample_percent": 100}
    settings["log"]["file_seconds"] = 1
    settings["routing"] = {"shadow": {"version": OLD}}
    (folder / "gateway.yaml").write_text(yaml.safe_dump(settings))

    monitoring = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    monitoring["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    for job, port in zip(monitoring["scrape_configs"], (gateway_port, rest_port), strict=True):
        job["static_configs"] = [{"targets": [f"127.0.0.1:{port}"]}]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(monitoring))
    for rules in ("alerts.yml", "stream_alerts.yml", "edge_alerts.yml"):
        shutil.copy(DEPLOY / "prometheus" / rules, folder)

    # The image holds the installed package alone.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    with ExitStack() as stack:

        def start(*command: str | Path, env: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
            log = stack.enter_context((folder / f"{Path(command[0]).name}.log").open("wb"))
            process = subprocess.Popen([*map(str, command)], stdout=log, stderr=log, cwd=folder, env=env)
            stack.callback(process.wait)
            stack.callback(process.kill)
            return process

        programs = Path(sys.executable).parent
        start(programs / "tensorflow_model_server", *flags)
        gateway = start(
            image_environment / "adclick-gateway", "--gateway-config", "gateway.yaml",
            "--port", str(gateway_port), env=environment,
        )  # fmt: skip
        start(
            prometheus,
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'tsdb'}",
            f"--web.listen-address=127.0.0.1:{prometheus_port}",
        )
        client = stack.enter_context(
            httpx.Client(base_url=f"http://127.0.0.1:{prometheus_port}", trust_env=False, timeout=120)
        )
        ready = f"http://127.0.0.1:{gateway_port}/readyz"
        wait_for("the gateway is ready", lambda: httpx.get(ready, trust_env=False).status_code == 200)
        running = Deployment(folder, rest_port, gateway_port, key, client, gateway)
        wait_for("both are scraped", lambda: running.query("sum(up) == 2"))
        yield running


@pytest.fixture(scope="module")
def busy(deployment: Deployment, tiny_model: TinyModel) -> Deployment:
    """The same after ten seconds of all kinds of requests."""
    picture = BytesIO()
    Image.new("RGB", (16, 16), (200, 30, 30)).save(picture, "PNG")
    images = [
        {"b64": base64.b64encode(picture.getvalue()).decode()}, tiny_model.creatives[0].key, "0" * 32,
    ]  # fmt: skip
    ads = [{"ad": f"ad{number}", **({"image": image} if image else {})} for number, image in enumerate([*images, None])]
    request = {"context": {"site": "site3"}, "ads": ads}
    until = time.monotonic() + 10
    while time.monotonic() < until:
        assert deployment.ask(deployment.key, request).status_code == 200
        assert deployment.ask(deployment.key, {"requests": [request]}, "score:batch").status_code == 200
        assert deployment.ask("nobody", request).status_code == 401
        assert deployment.ask(deployment.key, {"ads": [{"ad": 3}]}).status_code == 422
        time.sleep(0.2)
    return deployment


def dashboard_queries() -> list[str]:
    dashboard = json.loads((DEPLOY / "grafana" / "dashboards" / "serving.json").read_text())
    return [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]


def test_every_query_of_the_dashboard_gives_numbers(busy: Deployment) -> None:
    queries = dashboard_queries()
    assert len(queries) > 20
    for query in queries:
        # Grafana's interval is four scrapes at least.
        expression = query.replace("$__rate_interval", "1m")
        found = wait_for(f"{expression} gives something", lambda expression=expression: busy.query(expression), 30)
        numbers = [float(sample["value"][1]) for sample in found]
        assert any(number == number for number in numbers), (expression, found)


def test_every_metric_and_label_of_the_rules_exists(busy: Deployment) -> None:
    recorded = set(re.findall(r"record: (\S+)", (DEPLOY / "prometheus/alerts.yml").read_text()))
    wait_for("rules are recorded", lambda: all(busy.query(name) for name in recorded))
    names = set(busy.prometheus.get("/api/v1/label/__name__/values").json()["data"])
    seen = set()
    for alert in alerts():
        busy.query(alert["expr"])
        # A metric's name before its matchers or its range; functions and label lists have other brackets.
        for name, matchers in re.findall(r"([a-z:_][\w:]*[_:][\w:]*)(?:\{([^}]*)\}|\[)", alert["expr"]):
            if NOT_OURS.fullmatch(name):
                continue
            assert name in names, f"{alert['alert']}: {name}"
            seen.add(name)
            labels = set(busy.prometheus.get("/api/v1/labels", params={"match[]": name}).json()["data"])
            assert set(re.findall(r"(\w+)\s*(?:=~|!=|!~|=)", matchers)) <= labels
    assert {name.partition("_")[0] for name in seen} == {
        "adclick",
        ":tensorflow:serving:request",
        ":tensorflow:cc:saved",
    }


def test_the_health_checks_of_compose_find_the_servers(busy: Deployment) -> None:
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    for name, old, new in (("tensorflow-serving", 8501, busy.rest_port), ("gateway", 8080, busy.gateway_port)):
        _, program, *arguments = services[name]["healthcheck"]["test"]
        program = sys.executable if program == "python" else program
        environment = {key: value for key, value in os.environ.items() if "proxy" not in key.lower()}
        for port, healthy in ((new, True), (free_port(), False)):
            command = [program, *(argument.replace(str(old), str(port)) for argument in arguments)]
            done = subprocess.run(command, capture_output=True, env=environment, check=False, timeout=120)
            assert (done.returncode == 0) == healthy, (command, done.stderr)


def test_changed_settings_are_taken_over_and_refused_ones_told(busy: Deployment) -> None:
    file = busy.folder / "gateway.yaml"
    text = file.read_text()
    file.write_text(text + "limits: {ads: many}\n")
    wait_for("AdclickSettingsRefused fires", lambda: "AdclickSettingsRefused" in active(busy, "firing"), 30)
    file.write_text(text)


def test_a_gateway_that_dies_is_told(busy: Deployment) -> None:
    assert not active(busy) & {"AdclickGatewayDown", "AdclickModelServerDown", "AdclickModelNotLoaded"}
    busy.gateway.send_signal(signal.SIGTERM)
    assert busy.gateway.wait(timeout=120) == 0
    wait_for("AdclickGatewayDown is pending", lambda: "AdclickGatewayDown" in active(busy), 30)
    assert "AdclickModelServerDown" not in active(busy)


def active(deployment: Deployment, state: str = "") -> set[str]:
    found = deployment.prometheus.get("/api/v1/alerts").json()["data"]["alerts"]
    return {alert["labels"]["alertname"] for alert in found if alert["state"].startswith(state)}
