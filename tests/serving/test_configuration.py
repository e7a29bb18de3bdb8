"""TensorFlow Serving's configuration files, and what is wrong with some."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from adclick.serving.errors import InvalidArgumentError, NotFoundError
from adclick.serving.model_server.configuration import (
    Choice,
    ModelConfig,
    VersionPolicy,
    read_batching_options,
    read_model_configs,
    read_prometheus_path,
    read_ssl_options,
)


@pytest.fixture
def file(tmp_path: Path) -> Any:
    def write(text: str) -> str:
        path = tmp_path / "file.config"
        path.write_text(text)
        return str(path)

    return write


def test_reads_models(file: Any) -> None:
    text = """
    model_config_list {
      config { name: "a" base_path: "/a" model_platform: "tensorflow" }
      config {
        name: "b" base_path: "gs://bucket/b" model_platform: "tensorflow"
        model_version_policy { specific { versions: 3 versions: 5 } }
        version_labels { key: "stable" value: 3 }
      }
      config { name: "c" base_path: "/c" model_type: TENSORFLOW model_version_policy { all {} } }
      config {
        name: "d" base_path: "/d" model_platform: "tensorflow" model_version_policy { latest { num_versions: 2 } }
      }
    }
    """
    assert read_model_configs(file(text)) == (
        ModelConfig("a", "/a"),
        ModelConfig("b", "gs://bucket/b", VersionPolicy(Choice.SPECIFIC, versions=frozenset({3, 5})), {"stable": 3}),
        ModelConfig("c", "/c", VersionPolicy(Choice.ALL)),
        ModelConfig("d", "/d", VersionPolicy(count=2)),
    )


@pytest.mark.parametrize(
    ("models", "error"),
    [
        ('config { name: "a" base_path: "/a" }', "neither ModelServerConfig::model_type"),
        ('config { name: "a" base_path: "/a" model_platform: "torch" }', "unsupported platform torch"),
        (
            'config { name: "a" model_platform: "tensorflow" } config { name: "a" model_platform: "tensorflow" }',
            "Illegal to list model a multiple times",
        ),
        ("config { nonsense: 1 }", "Invalid protobuf file"),
    ],
)
def test_refuses_models(file: Any, models: str, error: str) -> None:
    with pytest.raises(InvalidArgumentError, match=error):
        read_model_configs(file(f"model_config_list {{ {models} }}"))


def test_what_is_wrong_with_a_file_is_printed_as_tensorflow_serving_does(
    file: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    path = file("model_config_list {\n  models: 1 }")
    with pytest.raises(InvalidArgumentError) as refusal:
        read_model_configs(path)
    assert refusal.value.message == f"Invalid protobuf file: '{path}'"
    printed = capsys.readouterr().err
    assert printed.startswith("Error parsing text-format tensorflow.serving.ModelServerConfig: 2:3")
    assert 'has no field named "models"' in printed


def test_a_file_that_is_not_there_is_named() -> None:
    with pytest.raises(NotFoundError, match=r"/nowhere/models.config: No such file"):
        read_model_configs("/nowhere/models.config")


def test_policies_choose_versions() -> None:
    present = [3, 10, 5]
    assert VersionPolicy().candidates(present) == [10, 5, 3]
    assert VersionPolicy(Choice.SPECIFIC, versions=frozenset({3, 7})).candidates(present) == [3]
    assert [VersionPolicy(count=2).wants(5, loaded) for loaded in (1, 2)] == [True, False]
    assert VersionPolicy(count=1, versions=frozenset({5})).wants(5, 1)
    assert VersionPolicy(Choice.ALL).wants(5, 99)


def test_reads_batching_options(file: Any) -> None:
    options = read_batching_options(
        file(
            "max_batch_size { value: 128 } batch_timeout_micros { value: 5000 } num_batch_threads { value: 3 }"
            'max_enqueued_batches { value: 7 } thread_pool_name { value: "pool" }'
            "allowed_batch_sizes: 32 allowed_batch_sizes: 128 pad_variable_length_inputs: true"
        )
    )
    assert (options.max_batch_size, options.batch_timeout_seconds, options.num_batch_threads) == (128, 0.005, 3)
    assert (options.max_enqueued_batches, options.thread_pool_name) == (7, "pool")
    assert (options.allowed_batch_sizes, options.pad_variable_length_inputs) == ((32, 128), True)
    assert not options.takes_large_requests


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("max_batch_size { value: 0 }", "must be positive"),
        ("batch_timeout_micros { value: -1 }", "batch_timeout_micros must be non-negative; was -1"),
        ("max_batch_size { value: 8 } allowed_batch_sizes: 4 allowed_batch_sizes: 2", "monotonically increasing"),
        ("max_batch_size { value: 8 } allowed_batch_sizes: 4", "last entry was 4; expected 8"),
        ("max_batch_size: 8", "Invalid protobuf file"),
    ],
)
def test_refuses_batching_options(file: Any, text: str, error: str) -> None:
    with pytest.raises(InvalidArgumentError, match=error):
        read_batching_options(file(text))


def test_reads_where_the_metrics_are(file: Any) -> None:
    assert read_prometheus_path(file("prometheus_config { enable: true }")) == "/monitoring/prometheus/metrics"
    assert read_prometheus_path(file('prometheus_config { enable: true, path: "/m" }')) == "/m"
    assert read_prometheus_path(file("")) is None


def test_reads_certificates(file: Any) -> None:
    options = read_ssl_options(file('server_key: "key" server_cert: "cert" custom_ca: "ca" client_verify: true'))
    assert (options.server_key, options.server_certificate) == (b"key", b"cert")
    assert (options.client_authority, options.verify_clients) == (b"ca", True)
    with pytest.raises(InvalidArgumentError, match="server_key and server_cert must hold"):
        read_ssl_options(file('server_key: "key"'))
