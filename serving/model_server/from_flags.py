"""Runs the model server as TensorFlow Serving's flags say."""

from __future__ import annotations

import argparse
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from tensorflow.core.protobuf import config_pb2, rewriter_config_pb2

from adclick.serving.errors import InvalidArgumentError, ServingError
from adclick.serving.foreground import settle, stopping_on_signals
from adclick.serving.model_server.command import INERT
from adclick.serving.model_server.configuration import (
    BatchingOptions,
    ModelConfig,
    check_base_path,
    read_batching_options,
    read_model_configs,
    read_prometheus_path,
    read_ssl_options,
    read_text_proto,
)
from adclick.serving.model_server.dataplane import ModelServer, ServerOptions
from adclick.serving.model_server.grpc_services import GrpcOptions
from adclick.serving.model_server.repository import RetryPolicy
from adclick.serving.model_server.servable import LoadOptions
from adclick.serving.model_server.server import Endpoints, create_model_server, listening

logger = logging.getLogger(__name__)


def run(flags: argparse.Namespace) -> None:
    """Serves until SIGTERM or SIGINT; must be called in the main thread.

    Raises:
        ServingError: The flags contradict each other, a file is wrong, or a port is in use.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname).1s %(name)s] %(message)s")
    for name, (_, default, reason) in INERT.items():
        if getattr(flags, name) != default:
            logger.warning("--%s has no effect: %s", name, reason)
    models = _models(flags)
    model_server = create_model_server(
        models, _options(flags), _batching(flags), flags.enable_per_model_batching_parameters
    )
    with (
        stopping_on_signals() as stopping,
        listening(model_server, _endpoints(flags)),
        _reloading(flags, model_server),
    ):
        settle()
        stopping.wait()


def _models(flags: argparse.Namespace) -> tuple[ModelConfig, ...]:
    if flags.model_config_file:
        return read_model_configs(flags.model_config_file)
    model = ModelConfig(flags.model_name, flags.model_base_path)
    check_base_path(model)
    return (model,)


def _options(flags: argparse.Namespace) -> ServerOptions:
    intra, inter = flags.tensorflow_intra_op_parallelism, flags.tensorflow_inter_op_parallelism
    both = flags.tensorflow_session_parallelism
    separate = intra > 0 or inter > 0
    return ServerOptions(
        poll_seconds=flags.file_system_poll_wait_seconds,
        load=LoadOptions(
            tags=tuple(flags.saved_model_tags.split(",")),
            intra_op_threads=intra if separate else both,
            inter_op_threads=inter if separate else both,
            session_config=_session_config(flags),
            prefers_lite=flags.prefer_tflite_model,
            **({"lite_interpreters": flags.num_tflite_pools} if flags.num_tflite_pools > 0 else {}),
        ),
        retries=_retries(flags),
        waits_for_base_paths=True,
        reads_batching_parameters=flags.enable_batching and flags.enable_per_model_batching_parameters,
        warms_up=flags.enable_model_warmup,
        warmup_iterations=max(1, flags.num_request_iterations_for_warmup),
        labels_unavailable_versions=flags.allow_version_labels_for_unavailable_models,
        moves_labels_to_unavailable_versions=flags.force_allow_any_version_labels_for_unavailable_models,
        checks_method_name=flags.enable_signature_method_name_check,
    )


def _retries(flags: argparse.Namespace) -> RetryPolicy:
    """This server's own way, but for what is given."""
    policy = RetryPolicy()
    if flags.load_retry_interval_micros is not None:
        seconds = max(0.0, flags.load_retry_interval_micros / 1e6)
        policy = replace(policy, first_pause_seconds=seconds, longest_pause_seconds=seconds)
    if flags.max_num_load_retries is not None:
        policy = replace(policy, most=max(0, flags.max_num_load_retries))
    return policy


def _session_config(flags: argparse.Namespace) -> bytes:
    message = config_pb2.ConfigProto()
    if flags.tensorflow_session_config_file:
        message = read_text_proto(flags.tensorflow_session_config_file, message)
    message.gpu_options.per_process_gpu_memory_fraction = flags.per_process_gpu_memory_fraction
    if flags.mixed_precision == "bfloat16":
        rewrites = message.graph_options.rewrite_options
        rewrites.auto_mixed_precision_onednn_bfloat16 = rewriter_config_pb2.RewriterConfig.ON
    elif flags.mixed_precision:
        logger.warning("--mixed_precision has no effect: %s is not supported", flags.mixed_precision)
    return bytes(message.SerializeToString())


def _batching(flags: argparse.Namespace) -> BatchingOptions | None:
    if not flags.enable_batching:
        return None
    return (
        read_batching_options(flags.batching_parameters_file) if flags.batching_parameters_file else BatchingOptions()
    )


def _endpoints(flags: argparse.Namespace) -> Endpoints:
    rest_port = flags.rest_api_port or None
    if rest_port == flags.port:
        logger.error("--rest_api_port cannot be the same as --port: there will be no REST API")
        rest_port = None
    return Endpoints(
        host="0.0.0.0",
        rest_host="::",
        rest_port=rest_port,
        grpc_port=flags.port or None,
        grpc_socket_path=flags.grpc_socket_path,
        ssl=read_ssl_options(flags.ssl_config_file) if flags.ssl_config_file else None,
        grpc_channel_arguments=_channel_arguments(flags.grpc_channel_arguments),
        grpc=GrpcOptions(
            **({"threads": flags.grpc_max_threads} if flags.grpc_max_threads > 0 else {}),
            has_health_service=flags.enable_grpc_healthcheck_service,
            has_profiler=flags.enable_profiler,
            packs_tensors=flags.enable_serialization_as_tensor_content,
            uses_alts=flags.use_alts_credentials,
        ),
        rest_timeout_seconds=flags.rest_api_timeout_in_ms / 1000,
        prometheus_path=read_prometheus_path(flags.monitoring_config_file) if flags.monitoring_config_file else None,
        allows_cross_origin=flags.rest_api_enable_cors_support,
    )


def _channel_arguments(text: str) -> tuple[tuple[str, str | int], ...]:
    arguments: list[tuple[str, str | int]] = []
    for part in filter(None, text.split(",")):
        key, separator, value = part.partition("=")
        if not separator:
            raise InvalidArgumentError(f"--grpc_channel_arguments: {part!r} is not of the form KEY=VALUE")
        arguments.append((key, int(value) if value.lstrip("-").isdigit() else value))
    return tuple(arguments)


@contextmanager
def _reloading(flags: argparse.Namespace, model_server: ModelServer) -> Iterator[None]:
    """Takes changes of the model configuration file for the length of a `with` block."""
    seconds = flags.model_config_file_poll_wait_seconds
    if seconds <= 0 or not flags.model_config_file:
        yield
        return
    stopping = threading.Event()

    def poll() -> None:
        while not stopping.wait(seconds):
            try:
                model_server.reload(read_model_configs(flags.model_config_file, model_server.model_names))
            except ServingError as error:
                logger.error("the model configuration stays as it was: %s", error.described())
            except Exception:  # The thread must outlive whatever one reading meets; the next one tries again.
                logger.exception("reading %s failed", flags.model_config_file)

    thread = threading.Thread(target=poll, name="reload", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join()
