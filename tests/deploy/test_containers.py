"""Dockerfiles and compose.yaml, judged by hadolint and the compose schema."""

from __future__ import annotations

import ast
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

from adclick.serving.gateway.settings import load_settings
from tests.deploy.conftest import DEPLOY, ROOT, assert_passes, documents
from tests.deploy.image_environment import make_image_environment

DOCKERFILES = sorted((DEPLOY / "docker").glob("*.Dockerfile"))
#: No digest of theirs was found in public; deploy/README.md says how to pin one.
BY_TAG = {
    "tensorflow/serving:2.20.0",
    "apache/beam_python3.11_sdk:2.61.0",
    "apache/beam_python3.13_sdk:2.77.0",
    "flink:2.2.1-java17",
}
PACKAGES = ("pipeline", "components", "stream", "serving", "models", "storage", "schema")
PINNED = re.compile(r"[a-z/]+:[\w.-]+@sha256:[0-9a-f]{64}")


@pytest.mark.parametrize("file", DOCKERFILES, ids=lambda file: file.stem)
def test_hadolint(file: Path) -> None:
    assert_passes("hadolint", file)


@pytest.mark.parametrize("file", DOCKERFILES, ids=lambda file: file.stem)
def test_bases_are_pinned_and_the_user_is_not_root(file: Path) -> None:
    lines = file.read_text().splitlines()
    stages = {line.split()[-1] for line in lines if line.startswith("FROM")}
    bases = {line.split()[1] for line in lines if line.startswith("FROM")}
    outside = {base for base in bases - stages if "${STACK}" not in base}
    assert len(outside) >= 2
    assert all(PINNED.fullmatch(base) or base in BY_TAG for base in outside), outside
    # Both stacks stand behind ${STACK}.
    assert {"python-compat", "python-modern"} <= stages
    last_user = [line for line in lines if line.startswith("USER")][-1]
    assert last_user == "USER 10001:10001"


def test_the_pipeline_s_image_holds_every_package() -> None:
    text = (DEPLOY / "docker" / "pipeline.Dockerfile").read_text()
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"][0]["layers"]
    assert sorted(packages) == sorted(PACKAGES)
    assert [name for name in packages if f"COPY {name} {name}\n" not in text] == []


def test_the_gateway_s_image_installs_the_package_s_extra() -> None:
    assert "--requirements pyproject.toml --extra gateway" in (DEPLOY / "docker" / "gateway.Dockerfile").read_text()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = {
        re.split(r"[\[=<>; ]", dependency)[0]
        for dependency in (*project["dependencies"], *project["optional-dependencies"]["gateway"])
    }
    assert "starlette" in names
    assert not {name for name in names if "tfx" in name or "beam" in name or name == "adclick"}


def test_the_gateway_s_image_copies_the_code_that_it_imports_and_no_other() -> None:
    text = (DEPLOY / "docker" / "gateway.Dockerfile").read_text()
    copied: set[Path] = set()
    for line in text.splitlines():
        if line.startswith("COPY") and "--from" not in line:
            for source in (ROOT / name for name in line.split()[1:-1]):
                copied |= set(source.rglob("*.py")) if source.is_dir() else {source}
    imported = imports_of(ROOT / "serving")
    ours = {file for file in copied if file.relative_to(ROOT).parts[0] in PACKAGES}
    assert imported <= ours, "the gateway would not start"
    # The feature table's package and the server's are whole; of the models' code none is there that trains.
    unused = {str(file.relative_to(ROOT)) for file in ours - imported}
    assert {name for name in unused if not name.startswith(("schema/", "serving/"))} == set()


def imports_of(package: Path) -> set[Path]:
    """The files of a package, and all files of ours that they import, wherever in them."""
    waiting = list(package.rglob("*.py"))
    files: set[Path] = set()
    while waiting:
        file = waiting.pop()
        if file in files:
            continue
        files.add(file)
        for node in ast.walk(ast.parse(file.read_text())):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module is not None:
                names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            for name in names:
                top, _, inside = name.partition(".")
                if top == "adclick" and inside.partition(".")[0] in PACKAGES:
                    path = ROOT.joinpath(*inside.split("."))
                    candidates = [path.with_suffix(".py"), *(p / "__init__.py" for p in [path, *path.parents])]
                    package = ROOT / inside.partition(".")[0]
                    waiting += [c for c in candidates if c.exists() and c.is_relative_to(package)]
    return files


@pytest.mark.end_to_end
def test_the_device_s_image_holds_the_runtime_its_command_starts_and_no_tensorflow(tmp_path: Path) -> None:
    programs = make_image_environment(tmp_path, "edge").parent
    (tmp_path / "none").write_bytes(b"none")
    command = [str(programs / "adclick-edge"), "verify", "--bundle", str(tmp_path / "none")]
    command += ["--public-key", str(tmp_path / "none")]
    done = subprocess.run(command, cwd="/", capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, "no key in PEM" in done.stderr) == (2, True), done.stderr
    (site_packages,) = programs.parent.glob("lib/python3*/site-packages")
    installed = {file.name.partition("-")[0] for file in site_packages.glob("*.dist-info")}
    assert {"adclick_edge", "ai_edge_litert", "paho_mqtt"} <= installed
    assert not installed & {"tensorflow", "adclick", "tfx"}
    # slim.sh has been there.
    assert not (site_packages / "ml_dtypes").exists()


def test_the_build_context_holds_what_is_copied() -> None:
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    for file in DOCKERFILES:
        for line in file.read_text().splitlines():
            if line.startswith("COPY") and "--from" not in line:
                sources = line.split()[1:-1]
                assert all({source, source.partition("/")[0]} & allowed for source in sources), line
                assert all((ROOT / source).exists() for source in sources), line


def test_compose() -> None:
    file = DEPLOY / "compose.yaml"
    assert_passes("check-jsonschema", "--builtin-schema", "vendor.compose-spec", file)
    services = yaml.safe_load(file.read_text())["services"]
    for name, service in services.items():
        assert service["read_only"] and service["cap_drop"] == ["ALL"], name
        assert "build" in service or PINNED.fullmatch(service["image"]) or service["image"] in BY_TAG, name
        for volume in service.get("volumes", []):
            if volume.startswith("./"):
                assert (DEPLOY / volume.split(":")[0]).exists(), volume
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", [])), name
    # TensorFlow Serving knows no keys: no port of its leaves the network that has no way out.
    server = services["tensorflow-serving"]
    assert server["networks"] == ["models"] and "ports" not in server
    # Compose and Kubernetes run one server by the same flags, but for what spreads replicas.
    (deployment,) = (
        d for d in documents(DEPLOY / "kubernetes/base/tensorflow-serving.yaml") if d["kind"] == "Deployment"
    )
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert [flag for flag in container["args"] if "grpc_channel" not in flag] == server["command"]
    assert container["image"] == server["image"]


def test_the_gateway_asks_the_server_that_is_there() -> None:
    backend = load_settings(DEPLOY / "kubernetes/base/config/gateway.yaml").backend
    (service,) = (d for d in documents(DEPLOY / "kubernetes/base/tensorflow-serving.yaml") if d["kind"] == "Service")
    ports = {port["name"]: port["port"] for port in service["spec"]["ports"]}
    assert (backend.kind, backend.address) == ("grpc", f"{service['metadata']['name']}:{ports['grpc']}")
    assert "tensorflow-serving" in yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
