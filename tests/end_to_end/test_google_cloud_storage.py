"""Drops, artifacts and pushed models in a bucket, by the same commands, over the real protocol."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from adclick.serving.client.client import ModelServerClient
from adclick.serving.client.gateway_client import GatewayClient
from adclick.storage import google_storage
from tests.buckets import reached
from tests.end_to_end.harness import ADCLICK, Done, Project, adclick, environment, small_project
from tests.end_to_end.test_life_of_a_pipeline import available, is_ready, wait_for
from tests.gcs import Storage, running_storage

DROPS = "gs://drops/agency"
PUSH = "gs://models/adclick"


@pytest.fixture(scope="module")
def _running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Storage]:
    running = running_storage(tmp_path_factory.mktemp("storage"))
    with reached(running, google_storage._made_client, "drops", "artifacts", "models") as storage:
        yield storage


@pytest.fixture
def storage(_running: Storage) -> Storage:
    _running.reset()
    return _running


@pytest.fixture(scope="module")
def project(_running: Storage, pushed: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The project whose local run is known, with its drops and schema in the bucket; only the config is local."""
    folder = tmp_path_factory.mktemp("in_bucket")
    _running.put_folder(pushed.folder / "drops", DROPS)
    _running.put(f"{DROPS}-schema.pbtxt", (pushed.folder / "schema.pbtxt").read_bytes())
    shutil.copy(pushed.folder / "config.yaml", folder / "config.yaml")
    project = Project(folder)

    def move(config: dict[str, Any]) -> None:
        config["data"]["root"] = DROPS
        config["schema_file"] = f"{DROPS}-schema.pbtxt"
        config["pipeline_root"] = "gs://artifacts/root"
        config.setdefault("serving", {})["push_directory"] = PUSH

    project.edit_config(move)
    return project


def test_an_object_that_vanishes_while_it_is_read_stops_the_run(storage: Storage, project: Project) -> None:
    name = f"{DROPS}/2026-09/impressions-00.csv"
    content = storage.get(name)
    # The header was read, and the file is being cut into chunks: the failure is a worker's.
    storage.once(r"^GET /download/.*2026-09/impressions-00\.csv", lambda: storage.delete(name), after=1)
    done = project.run("--quiet", "--month", "2026-09")
    storage.put(name, content)
    assert done.code == 3, done.text
    assert f"{name}: has vanished" in done.err
    assert storage.names("gs://models") == []


def test_a_denied_bucket_is_named_with_the_permission(storage: Storage, project: Project) -> None:
    storage.deny("drops", "storage.objects.list")
    done = project.run("--quiet")
    assert done.code == 2, done.text
    assert "gs://drops: permission storage.objects.list is denied" in done.err
    storage.reset()

    before = storage.names("gs://artifacts")
    storage.deny("models", "storage.objects.create")
    done = project.run("--quiet")
    assert done.code == 2, done.text
    assert "gs://models: permission storage.objects.create is denied" in done.err
    assert storage.names("gs://artifacts") == before, "nothing was begun"
    storage.reset()

    # Within a worker.
    storage.deny("drops", "storage.objects.get", matches="^GET /download/.*/images/")
    done = project.run("--quiet")
    assert done.code == 2, done.text
    assert "gs://drops: permission storage.objects.get is denied" in done.err


@pytest.fixture(scope="module")
def run(_running: Storage, project: Project) -> Done:
    """A run in the bucket while the service answers now and then that it is overloaded."""
    _running.reset()
    for matches, status in (
        (r"^GET /download/.*\.csv", 503),
        (r"^GET /download/.*/images/", 429),
        (r"^POST /upload/storage/v1/b/artifacts/", 503),
        (r"^PUT /upload/", 503),
        (r"^GET /artifacts/", 503),
        (r"^GET /storage/v1/b/artifacts/o\?", 429),
    ):
        _running.fail(matches, status, times=2)
    return project.run()


def test_a_run_in_the_bucket_equals_the_local_one(
    storage: Storage, run: Done, project: Project, pushed: Project
) -> None:
    assert run.code == 0, run.text
    here, local = project.status()["runs"][-1], pushed.status()["runs"][0]
    counts = ("rows_in", "rows_examples", "rows_quarantined", "quarantined_by_reason", "creatives_by_status")
    for ours, theirs in zip(here["drops"], local["drops"], strict=True):
        assert ours["uri"].startswith(DROPS)
        assert {key: ours[key] for key in counts} == {key: theirs[key] for key in counts}
    overall, expected = (record["evaluation"][0]["metrics"] for record in (here, local))
    for metric in ("auc", "log_loss", "calibration_ratio"):
        assert overall[metric]["value"] == pytest.approx(expected[metric]["value"], rel=1e-3), metric
    assert all(uri.startswith("gs://artifacts/root/") for uris in here["artifacts"].values() for uri in uris)
    assert not (project.output / "pipeline_root").exists() and not (project.output / "serving_model").exists()
    assert not [name for name in storage.names("gs://artifacts") if ".partial" in name or "/work/" in name]
    served = project.status()["models"]["adclick"]
    assert (served["versions"], served["served_version"]) == ([here["pushed_version"]], here["pushed_version"])


def test_a_pushed_version_is_whole_when_its_last_object_appears(storage: Storage, run: Done) -> None:
    assert run.code == 0, run.text
    names = storage.names(PUSH)
    assert {name.partition("/")[2] for name in names} >= {"saved_model.pb", "assets.extra/tf_serving_warmup_requests"}
    written = {name: storage.created(f"{PUSH}/{name}") for name in names if not name.endswith("/")}
    assert max(written, key=lambda name: written[name]).endswith("/saved_model.pb")


@contextmanager
def serving(command: list[str], ready: Any) -> Iterator[None]:
    server = subprocess.Popen(command, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(ready, 120)
        yield
    finally:
        server.send_signal(signal.SIGTERM)
        assert server.wait(120) == 0


def free_ports(count: int) -> list[int]:
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


@contextmanager
def both_servers(push: str, drops: str, version: int, folder: Path) -> Iterator[tuple[str, str, str]]:
    """`adclick serve`, which may fetch images from the drops, and the model server alone, of versions in a bucket.

    Yields the addresses of the first one's TensorFlow Serving API and ad API, and of the second, once they answer by
    the version.
    """
    rest_port, ads_port, plain_port, plain_grpc_port = free_ports(4)
    settings = {"creatives": {"allowed": [drops], "timeout_seconds": 120}, "limits": {"rate": ""}}
    (folder / "gateway.yaml").write_text(yaml.safe_dump(settings))
    ours = [str(ADCLICK), "serve", "--development", "--model-base-path", push, "--rest-port", str(rest_port)]
    ours += ["--grpc-port", "0", "--port", str(ads_port), "--gateway-config", str(folder / "gateway.yaml")]
    plain = [str(Path(sys.executable).with_name("tensorflow_model_server")), f"--model_base_path={push}"]
    plain += ["--model_name=adclick", f"--port={plain_grpc_port}", f"--rest_api_port={plain_port}"]
    url, ads_url, plain_url = (f"http://127.0.0.1:{port}" for port in (rest_port, ads_port, plain_port))
    with (
        serving(plain, lambda: available(plain_url) == [version]),
        serving(ours, lambda: available(url) == [version] and is_ready(ads_url)),
    ):
        yield url, ads_url, plain_url


def copy_version(storage: Storage, version: int, new: int, names: list[str]) -> None:
    for name in names:
        storage.put(f"{PUSH}/{new}/{name}", storage.get(f"{PUSH}/{version}/{name}"))


def test_both_servers_load_from_the_bucket(storage: Storage, run: Done, project: Project, tmp_path: Path) -> None:
    assert run.code == 0, run.text
    (version,) = project.status()["models"]["adclick"]["versions"]
    with (
        both_servers(PUSH, DROPS, version, tmp_path) as (url, ads_url, plain_url),
        ModelServerClient(url) as client,
        GatewayClient(ads_url) as gateway,
    ):
        predicted = adclick("predict", "--config", project.config, "--url", url, "--quiet")
        assert predicted.code == 0, predicted.text
        again = adclick("predict", "--config", project.config, "--url", plain_url, "--quiet")
        assert again.out == predicted.out

        names = [name for name in storage.names(f"{DROPS}/2026-09/images") if name.endswith(".jpg")]
        address = f"{DROPS}/2026-09/images/{names[0]}"
        image = storage.get(address)
        by_address, by_bytes, none = (
            gateway.score([{"ad_id": "", "image": one}], {}, creative_status=True).ads[0]
            for one in (address, image, f"{DROPS}/2026-09/images/none.jpg")
        )
        assert (by_address.creative_status, none.creative_status) == ("ok", "not_fetched")
        assert by_address.click_probability == pytest.approx(by_bytes.click_probability, abs=1e-6)
        refused = httpx.post(f"{ads_url}/v1/score", json={"ads": [{"image": "gs://models/x.jpg"}]}, trust_env=False)
        assert refused.status_code == 403

        parts = [name for name in storage.names(f"{PUSH}/{version}") if not name.endswith("/")]
        copy_version(storage, version, version + 1, [name for name in parts if name != "saved_model.pb"])
        asked = len(storage.requests)
        wait_for(lambda: sum(f"{version + 1}/saved_model.pb" in each for each in storage.requests[asked:]) >= 4)
        assert available(url) == [version], "half a version is none"
        assert project.status()["models"]["adclick"]["versions"] == [version]
        copy_version(storage, version, version + 1, ["saved_model.pb"])
        wait_for(lambda: available(url) == [version + 1] and available(plain_url) == [version + 1])
        assert client.metadata()["model_spec"]["version"] == str(version + 1)

        done = adclick("rollback", "--config", project.config, "--reason", "too many clicks predicted")
        assert done.code == 0, done.text
        wait_for(lambda: available(url) == [version] and available(plain_url) == [version])
        rolled_back = adclick("predict", "--config", project.config, "--url", url, "--quiet")
        assert rolled_back.out == predicted.out
        assert project.status()["models"]["adclick"]["withdrawn"] == [version + 1]


def test_no_address_is_a_pattern(storage: Storage, tmp_path: Path) -> None:
    strange = "a [v1]/x*?"
    project = small_project(tmp_path / "project", months=1, rows=3_000)
    storage.put_folder(project.folder / "drops", f"gs://drops/{strange}")
    # What would be found instead, were it one.
    storage.put("gs://drops/a v/xyz/2026-10/impressions-00.csv", b"clicked\n1\n")
    open_gates = [{"metric": "auc", "lower": 0.0}]

    def move(config: dict[str, Any]) -> None:
        config["data"]["root"] = f"gs://drops/{strange}"
        config["pipeline_root"] = f"gs://artifacts/{strange}"
        config["evaluation"] = {"confidence_intervals": False, "thresholds": open_gates}
        config.setdefault("serving", {})["push_directory"] = f"gs://models/{strange}"

    project.edit_config(move)
    done = project.run()
    assert done.code == 0, done.text
    ((version,),) = (model["versions"] for model in project.status()["models"].values())
    assert f"{version}/saved_model.pb" in storage.names(f"gs://models/{strange}")
    predicted = adclick("predict", "--config", project.config, "--quiet")
    assert predicted.code == 0 and 0 < float(predicted.out) < 1, predicted.text
    scored = adclick("batch-predict", "--config", project.config, "--output", tmp_path / "scores.csv")
    assert scored.code == 0, scored.text
    # The second run makes a baseline of the first one's model.
    done = project.run("--no-cache")
    assert done.code in (0, 4), done.text
    assert len(project.status()["runs"]) == 2
