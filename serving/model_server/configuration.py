"""What a model server is told to serve and how, read from TensorFlow Serving's own configuration files."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from adclick.serving.errors import InvalidArgumentError, NotFoundError
from adclick.serving.model_server import protos

_PLATFORM = "tensorflow"
_ABSOLUTE = re.compile(r"/|[a-zA-Z][0-9a-zA-Z.]*://")
PROMETHEUS_PATH = "/monitoring/prometheus/metrics"


class Choice(Enum):
    """Which of a model's versions a policy wants."""

    LATEST = "latest"
    ALL = "all"
    SPECIFIC = "specific"


@dataclass(frozen=True)
class VersionPolicy:
    """Which of the versions in a folder are served.

    Attributes:
        choice: The newest ones, all, or those that are named.
        count: How many of the newest.
        versions: The named ones; served besides the newest, too.
    """

    choice: Choice = Choice.LATEST
    count: int = 1
    versions: frozenset[int] = frozenset()

    def candidates(self, present: list[int]) -> list[int]:
        """The versions to load, the newest first; the newest ones may number more than `count` in case some fail."""
        newest_first = sorted(present, reverse=True)
        if self.choice is Choice.SPECIFIC:
            return [version for version in newest_first if version in self.versions]
        return newest_first

    def wants(self, version: int, loaded: int) -> bool:
        """Whether one of the candidates is to be loaded after so many newer ones are."""
        return self.choice is not Choice.LATEST or loaded < self.count or version in self.versions


@dataclass(frozen=True)
class ModelConfig:
    """A model to serve.

    Attributes:
        name: Its name in addresses.
        base_path: The folder, local or gs://, that holds a folder per version.
        policy: Which of the versions are served.
        labels: Names that stand for versions.
    """

    name: str
    base_path: str
    policy: VersionPolicy = VersionPolicy()
    labels: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class BatchingOptions:
    """How requests are gathered into batches; TensorFlow Serving's parameters.

    Attributes:
        max_batch_size: Rows after which a batch is full.
        batch_timeout_seconds: How long the first request of a batch waits for company. With 0 a batch is what came
            while the batch before it ran, which costs a lone request nothing.
        max_enqueued_batches: Full batches that may wait; beyond them requests are refused with UNAVAILABLE.
        num_batch_threads: Batches that run at the same time.
        thread_pool_name: The name in metrics.
        allowed_batch_sizes: Sizes to which a batch is filled up, ascending; any size if empty.
        pad_variable_length_inputs: Whether rows of different lengths are padded to share a batch.
        takes_large_requests: Whether a request of more rows than a batch holds runs as a batch of its own; refused if
            not.
    """

    max_batch_size: int = 1024
    batch_timeout_seconds: float = 0.0
    max_enqueued_batches: int = 64
    num_batch_threads: int = field(default_factory=lambda: max(1, len(os.sched_getaffinity(0)) // 2))
    thread_pool_name: str = "model_server_batch_threads"
    allowed_batch_sizes: tuple[int, ...] = ()
    pad_variable_length_inputs: bool = False
    takes_large_requests: bool = True


@dataclass(frozen=True)
class SslOptions:
    """Certificates of the gRPC API, PEM.

    Attributes:
        server_key: The server's private key.
        server_certificate: The server's certificate chain.
        client_authority: The certificates that sign clients'; None for the system's.
        verify_clients: Whether a client must show a certificate.
    """

    server_key: bytes
    server_certificate: bytes
    client_authority: bytes | None
    verify_clients: bool


def read_model_configs(path: str, served: Collection[str] = ()) -> tuple[ModelConfig, ...]:
    """Reads a ModelServerConfig in text form; as `model_configs`.

    Raises:
        NotFoundError: The file cannot be read.
        InvalidArgumentError: It is not a ModelServerConfig that can be served.
    """
    return model_configs(read_text_proto(path, model_server_config_pb2.ModelServerConfig()), served)


def model_configs(config: Any, served: Collection[str] = ()) -> tuple[ModelConfig, ...]:
    """The models of a ModelServerConfig message.

    Args:
        config: The message.
        served: The names of the models that are served now.

    Raises:
        InvalidArgumentError: A model stands twice, its base path is relative, or it asks for another platform.
    """
    if config.WhichOneof("config") == "custom_model_config":
        raise InvalidArgumentError("ModelServer does not yet support custom model config.")
    models: dict[str, ModelConfig] = {}
    for entry in config.model_config_list.config:
        if entry.name in models:
            raise InvalidArgumentError(f"Illegal to list model {entry.name} multiple times in config list")
        models[entry.name] = ModelConfig(
            entry.name, entry.base_path, _policy(entry.model_version_policy), dict(entry.version_labels)
        )
    for model in models.values():
        check_base_path(model)
    for entry in sorted(config.model_config_list.config, key=lambda entry: entry.name not in served):
        _check_platform(entry, entry.name in served)
    return tuple(models.values())


def check_base_path(model: ModelConfig) -> None:
    """Checks a model of TensorFlow Serving's files or flags.

    Raises:
        InvalidArgumentError: Its base path is relative, or empty.
    """
    if not _ABSOLUTE.match(model.base_path):
        raise InvalidArgumentError(
            f"Expected model {model.name} to have an absolute path or URI; got base_path()={model.base_path}"
        )


def _check_platform(entry: Any, is_served: bool) -> None:
    if entry.model_type and entry.model_platform:
        raise InvalidArgumentError(
            "Illegal setting both ModelServerConfig::model_type (deprecated) and ModelServerConfig::model_platform, "
            f"model name is {entry.name}"
        )
    if entry.model_type not in (0, 1):
        raise InvalidArgumentError(f"ModelServerConfig::model_type choice {entry.model_type} not supported.")
    platform = entry.model_platform or (_PLATFORM if entry.model_type else "")
    if not platform:
        raise InvalidArgumentError(
            "Illegal setting neither ModelServerConfig::model_type (deprecated) nor ModelServerConfig::model_platform, "
            f"model name is {entry.name}"
        )
    if platform != _PLATFORM and is_served:
        raise InvalidArgumentError(
            f"Illegal to change a model's platform. For model {entry.name} platform was {_PLATFORM} and new platform "
            f"requested is {platform}"
        )
    if platform != _PLATFORM:
        raise InvalidArgumentError(f"Model {entry.name} requests unsupported platform {platform}")


def read_batching_options(path: str) -> BatchingOptions:
    """Reads BatchingParameters in text form; what the file leaves out keeps its default.

    Raises:
        NotFoundError: The file cannot be read.
        InvalidArgumentError: It is not BatchingParameters, or a value makes no sense.
    """
    return _batching_options(read_text_proto(path, protos.BatchingParameters()), path)


def parse_batching_options(text: str, path: str) -> BatchingOptions:
    """Parses BatchingParameters in text form, which stand in a file of that path.

    Raises:
        InvalidArgumentError: It is not BatchingParameters, or a value makes no sense.
    """
    return _batching_options(_parse(text, protos.BatchingParameters(), path), path)


def _batching_options(message: Any, path: str) -> BatchingOptions:
    default = BatchingOptions()

    def given(name: str, otherwise: int) -> int:
        return int(getattr(message, name).value) if message.HasField(name) else otherwise

    options = BatchingOptions(
        max_batch_size=given("max_batch_size", default.max_batch_size),
        batch_timeout_seconds=given("batch_timeout_micros", 0) / 1e6,
        max_enqueued_batches=given("max_enqueued_batches", default.max_enqueued_batches),
        num_batch_threads=given("num_batch_threads", default.num_batch_threads),
        thread_pool_name=message.thread_pool_name.value or default.thread_pool_name,
        allowed_batch_sizes=tuple(message.allowed_batch_sizes),
        pad_variable_length_inputs=message.pad_variable_length_inputs,
        takes_large_requests=message.enable_large_batch_splitting.value,
    )
    sizes = options.allowed_batch_sizes
    if min(options.max_batch_size, options.num_batch_threads, options.max_enqueued_batches) < 1:
        raise InvalidArgumentError(
            f"{path}: max_batch_size, num_batch_threads and max_enqueued_batches must be positive"
        )
    if options.batch_timeout_seconds < 0:
        raise InvalidArgumentError(
            f"batch_timeout_micros must be non-negative; was {message.batch_timeout_micros.value}"
        )
    if sizes and (list(sizes) != sorted(set(sizes)) or sizes[0] < 1):
        raise InvalidArgumentError("allowed_batch_sizes entries must be monotonically increasing")
    if sizes and sizes[-1] != options.max_batch_size:
        raise InvalidArgumentError(
            "Last entry in allowed_batch_sizes must match max_batch_size; last entry was "
            f"{sizes[-1]}; expected {options.max_batch_size}"
        )
    return options


def read_prometheus_path(path: str) -> str | None:
    """Where a MonitoringConfig in text form wants the metrics; None if it does not want them.

    Raises:
        NotFoundError: The file cannot be read.
        InvalidArgumentError: It is not a MonitoringConfig.
    """
    prometheus = read_text_proto(path, protos.MonitoringConfig()).prometheus_config
    return (prometheus.path or PROMETHEUS_PATH) if prometheus.enable else None


def read_ssl_options(path: str) -> SslOptions:
    """Reads an SSLConfig in text form.

    Raises:
        NotFoundError: The file cannot be read.
        InvalidArgumentError: It is not an SSLConfig.
    """
    message = read_text_proto(path, protos.SSLConfig())
    if not message.server_key or not message.server_cert:
        raise InvalidArgumentError(f"{path}: server_key and server_cert must hold a key and a certificate in PEM form")
    authority = message.custom_ca.encode() or None
    return SslOptions(message.server_key.encode(), message.server_cert.encode(), authority, message.client_verify)


def _policy(message: Any) -> VersionPolicy:
    choice = message.WhichOneof("policy_choice")
    if choice == "all":
        return VersionPolicy(Choice.ALL)
    if choice == "specific":
        return VersionPolicy(Choice.SPECIFIC, versions=frozenset(message.specific.versions))
    return VersionPolicy(count=max(message.latest.num_versions, 1))


def read_text_proto(path: str, message: Any) -> Any:
    """Reads a message in text form.

    Raises:
        NotFoundError: The file cannot be read.
        InvalidArgumentError: It is not such a message.
    """
    try:
        text = Path(path).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise NotFoundError(f"{path}: {getattr(error, 'strerror', None) or error}") from error
    return _parse(text, message, path)


def _parse(text: str, message: Any, path: str) -> Any:
    try:
        return text_format.Parse(text, message)
    except text_format.ParseError as error:
        # Where and what, in a line before the error, as the parser of TensorFlow Serving prints it.
        print(f"Error parsing text-format {message.DESCRIPTOR.full_name}: {error}", file=sys.stderr)
        raise InvalidArgumentError(f"Invalid protobuf file: '{path}'") from error
