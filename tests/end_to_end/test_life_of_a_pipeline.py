"""A first run pushes a model that serves; a second run of the same input executes nothing."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import pytest
import tensorflow as tf
from ml_metadata import metadata_store
from ml_metadata.proto import metadata_store_pb2

from adclick.models.held_out import AUDIENCE_ROWS, HELD_OUT_FILE, HeldOut
from adclick.serving.client.client import ModelServerClient
from adclick.serving.client.gateway_client import GatewayClient
from adclick.serving.model_server.servable import Servable
from tests.end_to_end.harness import ADCLICK, Project, adclick, environment, held_out_examples

COMPONENTS = 2 * 4 + 8


def executions(project: Project) -> Counter[str]:
    """How many executions the metadata store has in each state."""
    config = metadata_store_pb2.ConnectionConfig()
    config.sqlite.filename_uri = str(project.output / "metadata.sqlite")
    state = metadata_store_pb2.Execution.State
    return Counter(
        state.Name(execution.last_known_state) for execution in metadata_store.MetadataStore(config).get_executions()
    )


@contextmanager
def serving(base: Path) -> Iterator[tuple[str, str]]:
    """Runs `adclick serve`; gives the addresses of the model server's REST API and of the ad API."""
    with socket.socket() as one, socket.socket() as other:
        for probe in (one, other):
            probe.bind(("127.0.0.1", 0))
        rest_port, port = one.getsockname()[1], other.getsockname()[1]
    options = {"--model-base-path": base, "--rest-port": rest_port, "--grpc-port": 0, "--port": port}
    server = subprocess.Popen(
        [str(ADCLICK), "serve", "--development", *(str(part) for option in options.items() for part in option)],
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url, ads_url = f"http://127.0.0.1:{rest_port}", f"http://127.0.0.1:{port}"
    try:
        wait_for(lambda: available(url) != [] and is_ready(ads_url))
        yield url, ads_url
    finally:
        server.send_signal(signal.SIGTERM)
        assert server.wait(120) == 0


def is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz", trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


def available(url: str) -> list[int]:
    """The versions that a server has ready."""
    try:
        answer = httpx.get(f"{url}/v1/models/adclick", trust_env=False).json()
    except httpx.TransportError:
        return []
    return [int(v["version"]) for v in answer.get("model_version_status", []) if v["state"] == "AVAILABLE"]


def wait_for(condition: object, seconds: float = 180) -> None:
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.2)


def test_an_unchanged_input_is_not_run_again(pushed: Project) -> None:
    before = executions(pushed)
    versions = pushed.versions

    done = pushed.run()

    assert done.code == 0, done.text
    assert "Nothing has changed" in done.out
    assert executions(pushed) - before == Counter(CACHED=COMPONENTS)
    assert pushed.versions == versions
    first, *_, last = pushed.status()["runs"]
    assert first["steps"] and not any(step["reused"] for step in first["steps"])
    assert len(last["steps"]) == COMPONENTS and all(step["reused"] for step in last["steps"])
    assert sorted(last["planned_steps"]) == sorted(step["name"] for step in last["steps"])
    assert last["running_step"] is None


def test_every_row_is_accounted_for(pushed: Project) -> None:
    status = pushed.status()
    (run, *_) = status["runs"]
    assert [drop["name"] for drop in run["drops"]] == ["2026-08", "2026-09"]
    for drop in run["drops"]:
        assert drop["rows_in"] == drop["rows_examples"] + drop["rows_quarantined"] + drop["rows_duplicate"]
        assert drop["rows_quarantined"] == sum(drop["quarantined_by_reason"].values()) > 0
        assert drop["rows_duplicate"] > 0
        lines = [
            json.loads(line)
            for file in Path(drop["quarantine_uri"]).glob("quarantine-*.jsonl")
            for line in file.read_text().splitlines()
        ]
        assert len(lines) == drop["rows_quarantined"]
        assert all(line["file"] and line["line"] > 1 and line["reason"] for line in lines)
    served = status["models"]["adclick"]
    assert (served["versions"], served["served_version"]) == (pushed.versions, pushed.versions[-1])


def test_the_pushed_model_answers_the_same_under_both_loaders(pushed: Project) -> None:
    folder = pushed.push_base / str(pushed.versions[-1])
    examples = held_out_examples(pushed, 200)

    by_python = tf.saved_model.load(str(folder)).signatures["serving_examples"](examples=tf.constant(examples))
    by_session = Servable.load(folder).run("serving_examples", {"examples": np.array(examples, object)})

    np.testing.assert_allclose(
        by_session["click_probability"], by_python["click_probability"].numpy(), rtol=0, atol=1e-7
    )
    assert np.ptp(by_session["click_probability"]) > 0.01


def test_the_pushed_model_keeps_an_audience(pushed: Project) -> None:
    (run, *_) = pushed.status()["runs"]
    content = (pushed.push_base / str(pushed.versions[-1]) / "assets.extra" / HELD_OUT_FILE).read_bytes()
    held_out = HeldOut.from_bytes(content)
    overall = next(
        found["metrics"] for found in run["evaluation"] if (found["slice"], found["model"]) == ("overall", "candidate")
    )
    assert held_out.span == 202609
    assert len(held_out.audience) == min(run["drops"][-1]["rows_eval"], AUDIENCE_ROWS)
    assert {name: estimate.value for name, estimate in held_out.metrics.items()} == {
        name: metric["value"] for name, metric in overall.items()
    }
    assert not {"clicked", "impression_id"} & {name for row in held_out.audience for name in row}


def test_the_server_answers_and_loads_a_new_version(pushed: Project, tmp_path: Path) -> None:
    base = tmp_path / "adclick"
    shutil.copytree(pushed.push_base, base)
    (version,) = pushed.versions
    image = next((pushed.folder / "drops" / "2026-09" / "images").glob("*.jpg")).read_bytes()
    with serving(base) as (url, ads_url), ModelServerClient(url) as client, GatewayClient(ads_url) as gateway:
        metadata = client.metadata()["metadata"]["signature_def"]["signature_def"]
        assert {"serving_default", "serving_examples", "embed_creative", "score"} <= set(metadata)
        inputs = metadata["serving_default"]["inputs"]
        given = {"DT_STRING": "", "DT_FLOAT": 0.0, "DT_INT64": 1_790_812_800}  # 2026-10-01
        row = {name: given[spec["dtype"]] for name, spec in inputs.items()}
        plain, with_image = client.predict([row, {**row, "image": image}])
        assert 0 < plain < 1 and 0 < with_image < 1 and plain != with_image
        context = {name: value for name, value in row.items() if name not in ("ad_id", "image")}
        scores = gateway.score([{"ad_id": ""}, {"ad_id": "", "image": image}], context, creative_status=True)
        assert scores.model_version == version
        by_index = {ad.index: ad for ad in scores.ads}
        assert [by_index[index].creative_status for index in (0, 1)] == ["none", "ok"]
        assert by_index[0].click_probability == pytest.approx(plain, abs=1e-6)
        assert by_index[1].click_probability == pytest.approx(with_image, abs=1e-6)

        incoming = tmp_path / "incoming"
        shutil.copytree(base / str(version), incoming)
        incoming.rename(base / str(version + 1))
        wait_for(lambda: available(url) == [version + 1])
        assert client.predict([row]) == [plain]

        shutil.rmtree(base / str(version + 1))
        wait_for(lambda: available(url) == [version])
        assert client.predict([row]) == [plain]


def test_predict_sends_a_real_request(pushed: Project) -> None:
    by_default = adclick("predict", "--config", pushed.config)
    assert by_default.code == 0, by_default.text
    assert "POST http://127.0.0.1:" in by_default.out and '{"predictions": [0.' in by_default.out

    image = next((pushed.folder / "drops" / "2026-09" / "images").glob("*.jpg"))
    request = json.dumps({"device_type": "phone", "ad_id": "never seen", "timestamp": "2026-09-30T12:00:00"})
    by_hand = adclick("predict", "--config", pushed.config, "--json", "-", "--image", image, "--quiet", stdin=request)
    assert by_hand.code == 0, by_hand.text
    assert 0 < float(by_hand.out) < 1

    wrong = adclick("predict", "--config", pushed.config, "--json", '{"colour": "red"}')
    assert wrong.code == 2 and "colour" in wrong.err
