"""The model server over real SavedModels, a real folder of versions and a real socket."""

from __future__ import annotations

import base64
import math
import select
import shutil
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import tensorflow as tf

from adclick.serving.client.client import ModelServerClient, ModelServerError
from adclick.serving.errors import (
    Code,
    DataLossError,
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    ServingError,
    UnavailableError,
)
from adclick.serving.model_server.configuration import ModelConfig
from adclick.serving.model_server.repository import LoadedVersion, ModelRepository, RetryPolicy
from adclick.serving.model_server.servable import Servable
from adclick.serving.model_server.server import Endpoints, RunningServer, running_server, serve
from adclick.serving.model_server.version_status import State, VersionStatus

POLL_SECONDS = 0.05
#: For whatever is waited for: on a machine ten times as busy as it should be, too.
SECONDS = 120.0


def row(**changes: Any) -> dict[str, Any]:
    return {"site": "games", "age": 2, "position": 3, "tags": ["a", ""], **changes}


# The answer of a model of bias 0 to `row()`: site 1, age 2, position 3, one tag.
ROW_SCORE = 7.0


def publish(model: Path, base_path: Path, version: int) -> None:
    """Puts a version in place whole."""
    partial = base_path / f"partial-{version}"
    shutil.copytree(model, partial)
    partial.rename(base_path / str(version))


def publish_broken(base_path: Path, version: int) -> None:
    folder = base_path / str(version)
    folder.mkdir()
    (folder / "saved_model.pb").write_bytes(b"\xff\xfegarbage")


def make_unreadable(path: Path) -> None:
    """Makes what no account can read, not even root, which permissions do not hold back."""
    path.symlink_to("x" * 300)


@contextmanager
def held(repository: ModelRepository) -> Iterator[LoadedVersion]:
    loaded = repository.acquire()
    try:
        yield loaded
    finally:
        loaded.release()


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it never became so"
        time.sleep(0.01)


def is_available(client: ModelServerClient) -> bool:
    try:
        return client.status()[0].state is State.AVAILABLE
    except ModelServerError:
        return False


class TestServable:
    def test_runs_a_tensorflow_2_model_from_its_assets(self, models: Callable[[int], Path]) -> None:
        servable = Servable.load(models(1))
        inputs = {
            "site": np.array(["news", "games", "unseen"], object),
            "age": np.array([1, np.nan, 1], np.float32),
            "position": np.array([1, 1, 1], np.int64),
            "tags": np.array([["a"], ["b"], [""]], object),
        }
        answer = servable.run("serving_default", inputs)
        assert answer["click_probability"].dtype == np.float32
        assert answer["click_probability"].tolist() == [1003.0, 1003.0, 1004.0]
        servable.close()

    def test_runs_a_tensorflow_1_model_with_a_table(self, half_plus_two: Path) -> None:
        servable = Servable.load(half_plus_two)
        assert servable.run("serving_default", {"x": np.array([[1.0]], np.float32)})["y"].tolist() == [[2.5]]
        found = servable.run("lookup", {"words": np.array([b"one", b"zero", b"two"])})["index"]
        assert found.tolist() == [1, 0, -1]
        servable.close()

    def test_tells_its_signatures(self, models: Callable[[int], Path]) -> None:
        servable = Servable.load(models(1))
        assert set(servable.signatures) == {"serving_default", "embed"}
        tags = servable.signatures["serving_default"].inputs["tags"]
        assert (tags.dtype, tags.shape) == (tf.string, (None, None))
        output = servable.signatures["serving_default"].outputs["click_probability"]
        assert (output.dtype, output.shape) == (tf.float32, (None,))
        servable.close()

    def test_runs_only_the_outputs_asked_for(self, models: Callable[[int], Path]) -> None:
        servable = Servable.load(models(1))
        image = {"image": np.array([b"\x00\xff"], object)}
        assert servable.run("embed", image, ["length"]).keys() == {"length"}
        assert servable.run("embed", image)["image_bytes"].tolist() == [b"\x00\xff"]
        with pytest.raises(InvalidArgumentError, match="output tensor alias not found in signature: lenght"):
            servable.run("embed", image, ["lenght"])
        servable.close()

    def test_refuses_wrong_inputs(self, half_plus_two: Path) -> None:
        servable = Servable.load(half_plus_two)
        x = np.zeros((1, 1), np.float32)
        with pytest.raises(FailedPreconditionError, match='Serving signature key "nowhere" not found'):
            servable.run("nowhere", {"x": x})
        with pytest.raises(
            InvalidArgumentError, match=r"Signature input alias: x\(feed name: x:0\) not found in request"
        ):
            servable.run("serving_default", {"z": x})
        with pytest.raises(InvalidArgumentError, match=r"Expects arg\[0\] to be float but double is provided"):
            servable.run("serving_default", {"x": x.astype(np.float64)})
        servable.close()

    def test_passes_on_what_the_graph_says(self, models: Callable[[int], Path]) -> None:
        servable = Servable.load(models(1))
        inputs = {
            "site": np.array(["news"], object),
            "age": np.zeros(2, np.float32),
            "position": np.zeros(3, np.int64),
            "tags": np.array([["a"]], object),
        }
        with pytest.raises(ServingError, match="Incompatible shapes") as failure:
            servable.run("serving_default", inputs)
        assert failure.value.code is Code.INVALID_ARGUMENT
        servable.close()

    def test_refuses_what_is_not_a_saved_model(self, tmp_path: Path) -> None:
        with pytest.raises(NotFoundError, match="Could not find SavedModel"):
            Servable.load(tmp_path)
        publish_broken(tmp_path, 1)
        with pytest.raises(DataLossError, match="Can't parse"):
            Servable.load(tmp_path / "1")
        (tmp_path / "1" / "saved_model.pb").write_bytes(b"")
        with pytest.raises(NotFoundError, match=r"matching supplied tags: \{ serve \}"):
            Servable.load(tmp_path / "1")

    def test_refuses_a_model_without_its_variables(self, models: Callable[[int], Path], tmp_path: Path) -> None:
        publish(models(1), tmp_path, 1)
        shutil.rmtree(tmp_path / "1" / "variables")
        with pytest.raises(ServingError):
            Servable.load(tmp_path / "1")

    def test_runs_from_many_threads(self, models: Callable[[int], Path]) -> None:
        servable = Servable.load(models(1))
        wrong: list[Any] = []

        def ask(length: int) -> None:
            for _ in range(50):
                answer = servable.run("embed", {"image": np.array([b"x" * length], object)})["length"]
                if answer.tolist() != [length]:
                    wrong.append(answer)

        threads = [threading.Thread(target=ask, args=[length], daemon=True) for length in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(SECONDS)
            assert not thread.is_alive()
        assert not wrong
        servable.close()


class TestRepository:
    @pytest.fixture
    def repository(self, tmp_path: Path) -> Iterator[ModelRepository]:
        repository = ModelRepository(ModelConfig("adclick", str(tmp_path)))
        yield repository
        repository.stop()

    def states(self, repository: ModelRepository) -> dict[int, State]:
        return {status.version: status.state for status in repository.statuses()}

    def served(self, repository: ModelRepository) -> int:
        with held(repository) as loaded:
            return loaded.version

    def test_serves_the_newest_and_nothing_but_numbers(
        self, repository: ModelRepository, models: Callable[[int], Path]
    ) -> None:
        for name in ("2", "10", "latest", "11.tmp"):
            shutil.copytree(models(1), Path(repository.config.base_path) / name)
        (Path(repository.config.base_path) / "12").write_text("a file")
        repository.poll()
        assert self.states(repository) == {10: State.AVAILABLE}
        with pytest.raises(NotFoundError, match=r"Specific\(adclick, 2\)"):
            repository.acquire(2)

    def test_a_newer_version_takes_over(self, repository: ModelRepository, models: Callable[[int], Path]) -> None:
        publish(models(1), Path(repository.config.base_path), 1)
        repository.poll()
        publish(models(2), Path(repository.config.base_path), 2)
        repository.poll()
        assert self.states(repository) == {2: State.AVAILABLE, 1: State.END}

    def test_a_version_in_use_is_freed_only_afterwards(
        self, repository: ModelRepository, models: Callable[[int], Path]
    ) -> None:
        publish(models(1), Path(repository.config.base_path), 1)
        repository.poll()
        with held(repository) as loaded:
            publish(models(2), Path(repository.config.base_path), 2)
            repository.poll()
            assert self.states(repository) == {2: State.AVAILABLE, 1: State.UNLOADING}
            assert self.served(repository) == 2
            assert loaded.servable.run("embed", {"image": np.array([b"x"])})["length"].tolist() == [1]
        assert self.states(repository) == {2: State.AVAILABLE, 1: State.END}

    def test_a_broken_version_changes_nothing_but_its_status(
        self, repository: ModelRepository, models: Callable[[int], Path]
    ) -> None:
        publish(models(1), Path(repository.config.base_path), 1)
        repository.poll()
        publish_broken(Path(repository.config.base_path), 2)
        repository.poll()
        assert self.served(repository) == 1
        broken, served = repository.statuses()
        assert (broken.version, broken.state, broken.error_code) == (2, State.END, Code.DATA_LOSS)
        assert "saved_model.pb" in broken.error_message
        assert served == VersionStatus(1, State.AVAILABLE)

    def test_a_broken_version_is_tried_again_when_its_files_change(
        self, repository: ModelRepository, models: Callable[[int], Path]
    ) -> None:
        publish_broken(Path(repository.config.base_path), 2)
        repository.poll()
        shutil.copytree(models(2), Path(repository.config.base_path) / "2", dirs_exist_ok=True)
        repository.poll()
        assert self.states(repository) == {2: State.AVAILABLE}

    def test_an_unreadable_version_stands_for_itself(
        self, repository: ModelRepository, models: Callable[[int], Path]
    ) -> None:
        base = Path(repository.config.base_path)
        publish(models(1), base, 101)
        make_unreadable(base / "103")
        (base / "102").mkdir()
        make_unreadable(base / "102" / "saved_model.pb")
        repository.poll()
        publish(models(4), base, 104)
        repository.poll()
        assert self.served(repository) == 104
        (base / "104").rename(base / "gone")
        repository.poll()
        assert self.served(repository) == 101
        statuses = {status.version: status for status in repository.statuses()}
        for version in (102, 103):
            status = statuses[version]
            assert (status.state, status.error_code) == (State.START, Code.UNAVAILABLE)
            assert f"/{version} cannot be read" in status.error_message
        (base / "103").unlink()
        publish(models(2), base, 103)
        repository.poll()
        assert self.served(repository) == 103

    def test_a_failure_that_leaves_no_trace_in_the_files_is_tried_again(
        self, models: Callable[[int], Path], tmp_path: Path
    ) -> None:
        failures = [OSError("the disk is away"), UnavailableError("so is the bucket")]
        tried: list[str] = []
        told: list[str] = []

        def load(path: str) -> Servable:
            tried.append(path)
            told.append(repository.statuses()[0].error_message)
            if failures and path.endswith("/2"):
                raise failures.pop()
            return Servable.load(path)

        retries = RetryPolicy(first_pause_seconds=0.05)
        repository = ModelRepository(ModelConfig("adclick", str(tmp_path)), retries=retries, load=load)
        publish(models(1), tmp_path, 1)
        publish(models(2), tmp_path, 2)
        repository.poll()
        assert self.served(repository) == 1
        assert "so is the bucket" in repository.statuses()[0].error_message
        wait_for(lambda: (repository.poll(), self.served(repository))[1] == 2)
        assert len(tried) == 4 and not failures
        assert told[2:] == ["so is the bucket", "OSError: the disk is away"]
        repository.stop()

    def test_what_is_asked_while_it_ends_can_be_asked_again(
        self, repository: ModelRepository, models: Callable[[int], Path]
    ) -> None:
        publish(models(1), Path(repository.config.base_path), 1)
        repository.poll()
        with held(repository) as taken:
            repository.stop()
            with pytest.raises(UnavailableError, match="ending"):
                repository.acquire()
            assert taken.servable.signatures

    def test_an_incomplete_version_waits_for_its_last_file(
        self, repository: ModelRepository, models: Callable[[int], Path]
    ) -> None:
        publish(models(1), Path(repository.config.base_path), 1)
        folder = Path(repository.config.base_path) / "2"
        shutil.copytree(models(2), folder, ignore=shutil.ignore_patterns("saved_model.pb"))
        repository.poll()
        assert self.served(repository) == 1
        incomplete = repository.statuses()[0]
        assert (incomplete.version, incomplete.state, incomplete.error_code) == (2, State.START, Code.NOT_FOUND)
        assert "incomplete" in incomplete.error_message
        shutil.copy(models(2) / "saved_model.pb", folder)
        repository.poll()
        assert self.states(repository) == {2: State.AVAILABLE, 1: State.END}

    def test_a_start_with_a_broken_newest_serves_the_one_before(
        self, repository: ModelRepository, models: Callable[[int], Path]
    ) -> None:
        publish(models(1), Path(repository.config.base_path), 1)
        publish_broken(Path(repository.config.base_path), 2)
        repository.poll()
        assert self.served(repository) == 1

    def test_removing_the_newest_rolls_back(self, repository: ModelRepository, models: Callable[[int], Path]) -> None:
        publish(models(1), Path(repository.config.base_path), 1)
        publish(models(2), Path(repository.config.base_path), 2)
        repository.poll()
        shutil.rmtree(Path(repository.config.base_path) / "2")
        repository.poll()
        assert self.states(repository) == {1: State.AVAILABLE, 2: State.END}
        publish(models(2), Path(repository.config.base_path), 2)
        repository.poll()
        assert self.states(repository) == {2: State.AVAILABLE, 1: State.END}

    def test_a_removed_version_outlives_a_broken_one(
        self, repository: ModelRepository, models: Callable[[int], Path]
    ) -> None:
        publish_broken(Path(repository.config.base_path), 1)
        publish(models(2), Path(repository.config.base_path), 2)
        repository.poll()
        shutil.rmtree(Path(repository.config.base_path) / "2")
        repository.poll()
        assert self.served(repository) == 2

    def test_removing_all_versions_ends_service(
        self, repository: ModelRepository, models: Callable[[int], Path]
    ) -> None:
        publish(models(1), Path(repository.config.base_path), 1)
        repository.poll()
        shutil.rmtree(Path(repository.config.base_path) / "1")
        repository.poll()
        with pytest.raises(NotFoundError, match=r"Servable not found for request: Latest\(adclick\)"):
            self.served(repository)

    def test_an_unreadable_base_path_changes_nothing(
        self, repository: ModelRepository, models: Callable[[int], Path]
    ) -> None:
        publish(models(1), Path(repository.config.base_path), 1)
        repository.poll()
        moved = Path(repository.config.base_path).rename(Path(repository.config.base_path).with_name("moved"))
        repository.poll()
        assert self.served(repository) == 1
        moved.rename(Path(repository.config.base_path))

    def test_a_removed_fault_is_forgotten(self, repository: ModelRepository, models: Callable[[int], Path]) -> None:
        publish_broken(Path(repository.config.base_path), 2)
        publish(models(1), Path(repository.config.base_path), 1)
        repository.poll()
        shutil.rmtree(Path(repository.config.base_path) / "2")
        repository.poll()
        assert self.states(repository) == {1: State.AVAILABLE}

    def test_says_why_none_became_available(self, repository: ModelRepository) -> None:
        with pytest.raises(UnavailableError, match="no numbered folder with a SavedModel is there"):
            repository.wait_until_available(0)
        publish_broken(Path(repository.config.base_path), 3)
        repository.poll()
        with pytest.raises(UnavailableError, match=r"version 3 is END \(DATA_LOSS: Can't parse"):
            repository.wait_until_available(600)

    def test_refuses_a_base_path_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(NotFoundError, match="Could not find base path"):
            ModelRepository(ModelConfig("adclick", str(tmp_path / "nowhere"))).start()


@pytest.fixture(scope="module")
def server(models: Callable[[int], Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    base_path = tmp_path_factory.mktemp("served")
    publish(models(0), base_path, 7)
    with running_server(base_path, poll_seconds=POLL_SECONDS) as running:
        yield running


@pytest.fixture(scope="module")
def http(server: RunningServer) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, trust_env=False, timeout=SECONDS) as client:
        yield client


class TestRest:
    @pytest.mark.parametrize(
        "path", ["/v1/models/adclick:predict", "/v1/models/adclick/versions/7:predict", "/V1/Models/adclick:predict"]
    )
    def test_predicts_rows(self, http: httpx.Client, path: str) -> None:
        answer = http.post(path, json={"instances": [row(), row(site="unseen")]})
        assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
        assert answer.json() == {"predictions": [ROW_SCORE, ROW_SCORE + 1]}

    def test_predicts_columns(self, http: httpx.Client) -> None:
        columns = {"site": ["news"], "age": [0.5], "position": [0], "tags": [["a", "b"]], "ignored": 1}
        answer = http.post("/v1/models/adclick:predict", json={"inputs": columns})
        assert answer.json() == {"outputs": [2.5]}

    def test_takes_nan_for_a_missing_number(self, http: httpx.Client) -> None:
        body = '{"instances": [{"site": "games", "age": NaN, "position": 3, "tags": ["a", ""]}]}'
        answer = http.post("/v1/models/adclick:predict", content=body)
        assert answer.json() == {"predictions": [ROW_SCORE - 2]}

    def test_carries_bytes_through_another_signature(self, http: httpx.Client) -> None:
        image = base64.b64encode(b"\x89PNG\x00").decode()
        request = {"signature_name": "embed", "instances": [{"b64": image}]}
        answer = http.post("/v1/models/adclick:predict", json=request)
        expected = {"image_bytes": {"b64": image}, "text": "5", "length": 5}
        assert answer.json() == {"predictions": [expected]}

    @pytest.mark.parametrize(
        ("method", "path", "body", "status", "error"),
        [
            ("POST", "/v1/models/adclick:predict", b"", 400, "JSON Parse error: The document is empty"),
            (
                "POST",
                "/v1/models/adclick:predict",
                b'{"instances": [{"extra": 1}]}',
                400,
                "does not have named input: extra",
            ),
            (
                "POST",
                "/v1/models/adclick:predict",
                b'{"signature_name": "nowhere", "instances": [1]}',
                400,
                'Serving signature name: "nowhere" not found in signature def',
            ),
            (
                "POST",
                "/v1/models/adclick:predict",
                b'{"signature_name": "__saved_model_init_op", "instances": [1]}',
                400,
                "Failed to get input map for signature: __saved_model_init_op",
            ),
            (
                "POST",
                "/v1/models/adclick:predict",
                b'{"inputs": {"site": ["a"], "age": [1, 2], "position": [1, 2, 3], "tags": [["a"]]}}',
                400,
                "Incompatible shapes",
            ),
            (
                "POST",
                "/v1/models/other:predict",
                b'{"instances": [1]}',
                404,
                "Servable not found for request: Latest(other)",
            ),
            (
                "POST",
                "/v1/models/adclick/versions/8:predict",
                b'{"instances": [1]}',
                404,
                "Servable not found for request: Specific(adclick, 8)",
            ),
            (
                "POST",
                "/v1/models/adclick/labels/canary:predict",
                b'{"instances": [1]}',
                400,
                "Unrecognized servable version label: canary",
            ),
            (
                "POST",
                "/v1/models/adclick/versions/18446744073709551615:predict",
                b"{}",
                400,
                "Failed to convert version: 18446744073709551615 to numeric.",
            ),
            (
                "POST",
                f"/v1/models/adclick/versions/{'9' * 5_000}:predict",
                b"{}",
                400,
                f"Failed to convert version: {'9' * 5_000} to numeric.",
            ),
            (
                "POST",
                "/v1/models/adclick:regress",
                b"{}",
                400,
                "When method is classify, key 'examples' is expected and was not found",
            ),
            ("POST", "/v1/models/adclick:regress", b'{"examples": [{"x": 1}]}', 400, "Expected one input Tensor."),
            ("POST", "/v1/models/adclick", b"", 400, "Malformed request: POST /v1/models/adclick"),
            ("POST", "/v1/foo", b"", 400, "Malformed request: POST /v1/foo"),
            ("GET", "/v1/models/adclick:predict", b"", 400, "Malformed request: GET /v1/models/adclick:predict"),
            ("GET", "/v1/models/adclick/versions/one", b"", 400, "Malformed request: GET"),
            ("PUT", "/v1/models/adclick", b"", 400, "Malformed request: PUT /v1/models/adclick"),
            ("GET", "/v1/models", b"", 400, "Missing model name in request."),
            ("GET", "/v1/models/other", b"", 404, "Could not find any versions of model other"),
            ("GET", "/v1/models/adclick/versions/8", b"", 404, "Could not find version 8 of model adclick"),
            ("GET", "/v1/models/other/metadata", b"", 404, "Servable not found for request: Latest(other)"),
        ],
    )
    def test_refuses(self, http: httpx.Client, method: str, path: str, body: bytes, status: int, error: str) -> None:
        answer = http.request(method, path, content=body)
        assert (answer.status_code, answer.headers["content-type"]) == (status, "application/json")
        assert answer.json().keys() == {"error"}
        assert error in answer.json()["error"]

    @pytest.mark.parametrize("path", ["/v1/models/adclick", "/v1/models/adclick/versions/7"])
    def test_tells_the_status(self, http: httpx.Client, path: str) -> None:
        available = {"version": "7", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
        assert http.get(path).json() == {"model_version_status": [available]}

    def test_tells_the_signatures(self, http: httpx.Client) -> None:
        metadata = http.get("/v1/models/adclick/versions/7/metadata").json()
        assert metadata["model_spec"] == {"name": "adclick", "signature_name": "", "version": "7"}
        signature = metadata["metadata"]["signature_def"]["signature_def"]["serving_default"]
        assert signature["method_name"] == "tensorflow/serving/predict"
        assert signature["inputs"]["age"] == {
            "dtype": "DT_FLOAT",
            "tensor_shape": {"dim": [{"size": "-1", "name": ""}], "unknown_rank": False},
            "name": "serving_default_age:0",
        }
        assert signature["outputs"].keys() == {"click_probability"}

    def test_answers_the_status_while_a_large_prediction_runs(self, http: httpx.Client) -> None:
        columns = {
            "site": ["news"] * 200_000,
            "age": [0] * 200_000,
            "position": [0] * 200_000,
            "tags": [[""]] * 200_000,
        }
        answers: list[httpx.Response] = []
        large = threading.Thread(
            target=lambda: answers.append(
                http.post("/v1/models/adclick:predict", json={"inputs": columns}, timeout=120)
            ),
            daemon=True,
        )
        large.start()
        assert http.get("/v1/models/adclick", timeout=120).status_code == 200
        large.join(SECONDS)
        assert not large.is_alive()
        assert answers[0].json()["outputs"] == [0.0] * 200_000

    def test_lets_the_graph_judge_shapes_as_tensorflow_serving_does(self, half_plus_two: Path, tmp_path: Path) -> None:
        publish(half_plus_two, tmp_path, 123)
        with running_server(tmp_path, model_name="half plus two") as running:
            url = f"{running.url}/v1/models/half%20plus%20two:predict"
            for request, expected in [
                ({"instances": [[1.0, 2.0], [3.0, 4.0]]}, {"predictions": [[2.5, 3.0], [3.5, 4.0]]}),
                ({"instances": [1.0, 2.0]}, {"predictions": [2.5, 3.0]}),
                ({"signature_name": "serving_default", "inputs": [3.0, 4.0]}, {"outputs": [3.5, 4.0]}),
            ]:
                assert httpx.post(url, json=request, trust_env=False).json() == expected

    def test_keeps_idle_connections_for_longer_than_clients_do(self, server: RunningServer) -> None:
        # A client that keeps its own for five seconds, as many do, would otherwise ask just when the server hangs up.
        with closing(HTTPConnection("127.0.0.1", server.port, timeout=SECONDS)) as connection:
            for idle in (6.0, 0.0):
                connection.request("GET", "/v1/models/adclick")
                answer = connection.getresponse()
                assert answer.status == 200 and answer.read()
                used = connection.sock
                assert used is not None and not select.select([used], [], [], idle)[0], "the server hung up"


class TestClient:
    @pytest.fixture
    def client(self, server: RunningServer) -> Iterator[ModelServerClient]:
        with ModelServerClient(server.url, server.model_name) as client:
            yield client

    def test_predicts(self, client: ModelServerClient) -> None:
        rows = [row(), row(age=math.nan), row(age=np.float32(0.5), tags=np.array(["a", "b"]))]
        assert client.predict(rows) == [ROW_SCORE, ROW_SCORE - 2, ROW_SCORE - 0.5]
        assert client.predict([b"\x00\xff"], signature_name="embed", version=7)[0]["length"] == 2

    def test_asks(self, client: ModelServerClient) -> None:
        assert client.status() == [VersionStatus(7, State.AVAILABLE)]
        assert client.metadata()["model_spec"]["version"] == "7"

    def test_raises_in_the_servers_words(self, client: ModelServerClient) -> None:
        with pytest.raises(ModelServerError, match=r"keys must be equal to: age,position,site,tags") as refusal:
            client.predict([{"site": "news"}])
        assert (refusal.value.http_status, refusal.value.code) == (400, Code.INVALID_ARGUMENT)


class TestSwaps:
    def test_no_request_fails_while_versions_come_and_go(self, models: Callable[[int], Path], tmp_path: Path) -> None:
        publish(models(1), tmp_path, 1)
        with running_server(tmp_path, poll_seconds=POLL_SECONDS) as running:
            client = ModelServerClient(running.url, retries=0)
            finished = threading.Event()
            scores: set[float] = set()
            failures: list[Exception] = []

            def ask() -> None:
                with ModelServerClient(running.url, retries=0, timeout_seconds=120) as mine:
                    while not finished.is_set():
                        try:
                            scores.update(mine.predict([row()]))
                        except Exception as error:
                            failures.append(error)

            threads = [threading.Thread(target=ask, daemon=True) for _ in range(4)]
            for thread in threads:
                thread.start()
            try:
                for version in (2, 3):
                    publish(models(version), tmp_path, version)
                    wait_for(lambda version=version: version * 1000 + ROW_SCORE in scores)
                publish_broken(tmp_path, 4)
                wait_for(lambda: client.status()[0].error_code is Code.DATA_LOSS)
                shutil.rmtree(tmp_path / "4")
                shutil.rmtree(tmp_path / "3")
                wait_for(lambda: client.status()[-2].state is State.AVAILABLE and client.status()[0].state is State.END)
                scores.clear()
                wait_for(lambda: 2000 + ROW_SCORE in scores)
            finally:
                finished.set()
            for thread in threads:
                thread.join(SECONDS)
                assert not thread.is_alive()
            assert not failures
            assert [(s.version, s.state) for s in client.status()] == [
                (3, State.END),
                (2, State.AVAILABLE),
                (1, State.END),
            ]
            client.close()


class TestStarting:
    def test_a_port_in_use_is_named(self, models: Callable[[int], Path], tmp_path: Path) -> None:
        publish(models(1), tmp_path, 1)
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            with (
                pytest.raises(UnavailableError, match=f"port {port} of 127.0.0.1 is already in use"),
                running_server(tmp_path, rest_port=port),
            ):
                pass

    def test_a_server_with_nothing_to_serve_says_so(self, tmp_path: Path) -> None:
        publish_broken(tmp_path, 1)
        with (
            pytest.raises(UnavailableError, match=r"no version of adclick .* version 1 is END \(DATA_LOSS"),
            running_server(tmp_path, poll_seconds=POLL_SECONDS, available_within_seconds=0.5),
        ):
            pass

    @pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
    def test_the_foreground_server_answers_until_a_signal(
        self, models: Callable[[int], Path], tmp_path: Path, stop: signal.Signals
    ) -> None:
        publish(models(0), tmp_path, 1)
        handler = signal.getsignal(stop)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        answers: list[Any] = []

        def ask_then_stop() -> None:
            with ModelServerClient(f"http://127.0.0.1:{port}", retries=0) as client:
                wait_for(lambda: is_available(client))
                answers.extend(client.predict([row()]))
                # A signal to the process may reach any of its threads.
                signal.pthread_kill(threading.get_ident(), stop)

        asking = threading.Thread(target=ask_then_stop, daemon=True)
        asking.start()
        serve(tmp_path, endpoints=Endpoints(rest_port=port))
        asking.join(SECONDS)
        assert not asking.is_alive()
        assert answers == [ROW_SCORE]
        assert signal.getsignal(stop) is handler
        with pytest.raises(ModelServerError, match="no model server answers"):
            ModelServerClient(f"http://127.0.0.1:{port}", retries=0).status()
