"""Configurations that give way to others, all or nothing; versions that stand for themselves."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from adclick.serving.errors import Code, DeadlineExceededError, FailedPreconditionError, NotFoundError, ServingError
from adclick.serving.model_server.batching import BatchingRunner
from adclick.serving.model_server.configuration import BatchingOptions, Choice, ModelConfig, VersionPolicy
from adclick.serving.model_server.dataplane import ModelServer, ServerOptions
from adclick.serving.model_server.folders import list_versions
from adclick.serving.model_server.metrics import Metrics
from adclick.serving.model_server.model_set import ModelSpec
from adclick.serving.model_server.repository import RetryPolicy
from tests.serving.conformance.models import save_half_plus

ALL = VersionPolicy(Choice.ALL)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """two/1 and two/2 (plus 2 and plus 3), three/1 (plus 3), broken/1."""
    folder = tmp_path_factory.mktemp("models")
    save_half_plus(folder / "two" / "1", 2.0)
    save_half_plus(folder / "two" / "2", 3.0)
    save_half_plus(folder / "three" / "1", 3.0)
    (folder / "broken" / "1").mkdir(parents=True)
    (folder / "broken" / "1" / "saved_model.pb").write_bytes(b"broken")
    return folder


@pytest.fixture
def server(models: Path) -> Iterator[ModelServer]:
    """`a`, the newest of two."""
    options = ServerOptions(poll_seconds=0.1, retries=RetryPolicy(0.05, 0.05))
    server = ModelServer((ModelConfig("a", str(models / "two")),), options=options)
    server.start()
    yield server
    server.stop()


def answer(server: ModelServer, name: str, version: int | None = None, label: str | None = None) -> float:
    _, outputs = server.predict_tensors(ModelSpec(name, version, label), {"x": np.array([0.0], np.float32)})
    return float(outputs["y"][0])


def test_a_label_that_cannot_be_changes_nothing(server: ModelServer, models: Path) -> None:
    a, b = ModelConfig("a", str(models / "two"), ALL), ModelConfig("b", str(models / "three"))
    server.reload((ModelConfig("a", str(models / "two"), ALL, {"live": 1}), b))
    assert (answer(server, "a", label="live"), answer(server, "b")) == (2.0, 3.0)
    moved = ModelConfig("a", str(models / "three"), ALL, {"live": 9})
    for config in ((moved, ModelConfig("c", str(models / "three"))), (ModelConfig("a", a.base_path, labels={"x": 7}),)):
        with pytest.raises(FailedPreconditionError, match="Request to assign label to version"):
            server.reload(config)
        assert (answer(server, "a", 1), answer(server, "a", 2), answer(server, "b")) == (2.0, 3.0, 3.0)
        assert answer(server, "a", label="live") == 2.0
        assert server.model_names == {"a", "b"}


def test_a_model_moves_to_another_folder(server: ModelServer, models: Path) -> None:
    server.reload((ModelConfig("a", str(models / "three")),))
    assert answer(server, "a") == 3.0
    with pytest.raises(NotFoundError):
        answer(server, "a", 2)
    server.reload((ModelConfig("a", str(models / "nowhere")),))
    assert answer(server, "a") == 3.0


def test_a_folder_that_is_not_there_is_waited_for(server: ModelServer, models: Path, tmp_path: Path) -> None:
    later = tmp_path / "later"
    config = (ModelConfig("a", str(models / "two")), ModelConfig("b", str(later)))
    with pytest.raises(DeadlineExceededError):
        server.reload(config, lambda: True, time.monotonic() + 0.2)
    save_half_plus(tmp_path / "1", 5.0)
    later.mkdir()
    (tmp_path / "1").rename(later / "1")
    server.wait_until_available(60)
    assert answer(server, "b") == 5.0


def test_what_cannot_be_loaded_is_told(server: ModelServer, models: Path) -> None:
    with pytest.raises(ServingError) as refusal:
        server.reload(
            (ModelConfig("a", str(models / "two")), ModelConfig("b", str(models / "broken"))),
            lambda: True,
            time.monotonic() + 60,
        )
    assert refusal.value.code is Code.UNKNOWN
    assert refusal.value.message.startswith(
        "1 model(s) did not become available: {{{name: b version: 1} due to error: "
    )
    assert answer(server, "a") == 3.0


def test_one_version_hides_no_other(server: ModelServer, models: Path, tmp_path: Path) -> None:
    base = tmp_path / "base"
    base.mkdir()
    (base / "1").symlink_to(models / "two" / "1")
    (base / "2").symlink_to(models / "broken" / "1")
    (base / "3").symlink_to(tmp_path / "nothing")
    (base / "4").mkdir()
    (base / "4" / "saved_model.pb").mkdir()
    (base / "5").write_text("a file")
    (base / "9223372036854775808").mkdir()
    (base / ("9" * 200)).mkdir()
    assert set(list_versions(str(base))) == {1, 2, 3, 4}
    server.reload((ModelConfig("a", str(base), ALL),))
    assert answer(server, "a") == 2.0
    deadline = time.monotonic() + 60
    # While a version is tried again, it has no reason.
    while True:
        reasons = {status.version: status.error_message for status in server.model_status(ModelSpec("a"))}
        if reasons[2] and reasons[4]:
            break
        assert time.monotonic() < deadline
        time.sleep(0.001)
    assert reasons[1] == ""
    assert "saved_model.pb" in reasons[2]
    assert "a link to nothing" in reasons[3]
    (base / "3").unlink()
    (base / "3").symlink_to(models / "three" / "1")
    deadline = time.monotonic() + 60
    while server.predict_tensors(ModelSpec("a"), {"x": np.array([0.0], np.float32)})[0] != 3:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_version_is_tried_again_a_number_of_times(tmp_path: Path) -> None:
    metrics = Metrics()
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "saved_model.pb").write_bytes(b"broken")
    options = ServerOptions(poll_seconds=0.02, retries=RetryPolicy(0.01, 0.01, most=2))
    server = ModelServer((ModelConfig("a", str(tmp_path)),), options=options, metrics=metrics)
    server.start()
    tries = f':load_attempt_count{{model_path="{tmp_path}/1",status="fail"}} 3'
    deadline = time.monotonic() + 60
    while tries.encode() not in metrics.text():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    time.sleep(0.2)
    assert tries.encode() in metrics.text()
    server.stop()


def test_models_have_batching_parameters_of_their_own(models: Path, tmp_path: Path) -> None:
    save_half_plus(tmp_path / "batched" / "1", 2.0)
    (tmp_path / "batched" / "1" / "batching_params.pbtxt").write_text(
        "max_batch_size { value: 4 } allowed_batch_sizes: 4"
    )
    metrics = Metrics()
    configs = (ModelConfig("batched", str(tmp_path / "batched")), ModelConfig("single", str(models / "three")))
    server = ModelServer(
        configs,
        options=ServerOptions(poll_seconds=0, reads_batching_parameters=True),
        runner=BatchingRunner(BatchingOptions(), metrics, per_model=True),
        metrics=metrics,
    )
    server.start()
    assert (answer(server, "batched"), answer(server, "single")) == (2.0, 3.0)
    text = metrics.text().decode()
    assert ":tensorflow:serving:batching_session:wrapped_run_count{} 1\n" in text
    assert ':tensorflow:serving:batching_session:padding_size_sum{execution_batch_size="4"} 3\n' in text
    server.stop()
