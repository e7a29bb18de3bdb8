"""TensorFlow Serving's flags: that all are known, and what they come to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tensorflow.core.protobuf import config_pb2, rewriter_config_pb2

from adclick.serving.errors import InvalidArgumentError
from adclick.serving.model_server import command, from_flags
from adclick.serving.model_server.repository import RetryPolicy

#: Those of TensorFlow Serving 2.20, main.cc.
FLAGS = [
    "port",
    "grpc_socket_path",
    "rest_api_port",
    "rest_api_num_threads",
    "rest_api_timeout_in_ms",
    "rest_api_enable_cors_support",
    "enable_batching",
    "allow_version_labels_for_unavailable_models",
    "batching_parameters_file",
    "enable_per_model_batching_parameters",
    "model_config_file",
    "model_config_file_poll_wait_seconds",
    "model_name",
    "model_base_path",
    "num_load_threads",
    "num_unload_threads",
    "max_num_load_retries",
    "load_retry_interval_micros",
    "file_system_poll_wait_seconds",
    "flush_filesystem_caches",
    "tensorflow_session_parallelism",
    "tensorflow_session_config_file",
    "tensorflow_intra_op_parallelism",
    "tensorflow_inter_op_parallelism",
    "use_alts_credentials",
    "ssl_config_file",
    "platform_config_file",
    "per_process_gpu_memory_fraction",
    "saved_model_tags",
    "grpc_channel_arguments",
    "grpc_max_threads",
    "enable_model_warmup",
    "num_request_iterations_for_warmup",
    "version",
    "monitoring_config_file",
    "remove_unused_fields_from_bundle_metagraph",
    "prefer_tflite_model",
    "num_tflite_pools",
    "num_tflite_interpreters_per_pool",
    "enable_signature_method_name_check",
    "xla_cpu_compilation_enabled",
    "xla_gpu_compilation_enabled",
    "enable_profiler",
    "thread_pool_factory_config_file",
    "mixed_precision",
    "skip_initialize_tpu",
    "enable_grpc_healthcheck_service",
    "enable_serialization_as_tensor_content",
]


def parsed(*flags: str) -> Any:
    known, unknown = command._parser().parse_known_args(["--model_base_path=/models/m", *flags])
    assert not unknown
    return known


def test_all_are_known() -> None:
    assert len(FLAGS) == 48
    assert set(FLAGS) <= vars(parsed()).keys()


def test_numbers_of_retries_and_pauses() -> None:
    assert from_flags._retries(parsed()) == RetryPolicy()
    flags = parsed("--max_num_load_retries=2", "--load_retry_interval_micros=500000")
    assert from_flags._retries(flags) == RetryPolicy(0.5, 0.5, 2)
    assert from_flags._retries(parsed("--load_retry_interval_micros=-1")).first_pause_seconds == 0


def test_sessions_are_configured_by_a_file_and_by_flags(tmp_path: Path) -> None:
    file = tmp_path / "session.config"
    file.write_text("allow_soft_placement: true intra_op_parallelism_threads: 9")
    flags = parsed(
        f"--tensorflow_session_config_file={file}",
        "--per_process_gpu_memory_fraction=0.5",
        "--mixed_precision=bfloat16",
        "--tensorflow_session_parallelism=3",
    )
    load = from_flags._options(flags).load
    config = config_pb2.ConfigProto.FromString(load.session_config)
    assert config.allow_soft_placement
    assert config.gpu_options.per_process_gpu_memory_fraction == 0.5
    on = rewriter_config_pb2.RewriterConfig.ON
    assert config.graph_options.rewrite_options.auto_mixed_precision_onednn_bfloat16 == on
    assert (load.intra_op_threads, load.inter_op_threads) == (3, 3)
    file.write_text("nonsense")
    with pytest.raises(InvalidArgumentError, match="Invalid protobuf file"):
        from_flags._options(parsed(f"--tensorflow_session_config_file={file}"))


def test_the_grpc_api() -> None:
    plain = from_flags._endpoints(parsed()).grpc
    assert (plain.has_health_service, plain.has_profiler, plain.packs_tensors) == (False, True, False)
    flags = parsed(
        "--enable_grpc_healthcheck_service",
        "--enable_profiler=false",
        "--enable_serialization_as_tensor_content",
        "--grpc_max_threads=7",
    )
    grpc = from_flags._endpoints(flags).grpc
    assert (grpc.has_health_service, grpc.has_profiler, grpc.packs_tensors, grpc.threads) == (True, False, True, 7)


@pytest.mark.parametrize("path", ["", "models/m", "./m"])
def test_a_base_path_must_be_absolute(path: str) -> None:
    with pytest.raises(InvalidArgumentError, match="Expected model default to have an absolute path or URI; got base_"):
        from_flags._models(parsed(f"--model_base_path={path}"))


@pytest.mark.parametrize("path", ["/m", "gs://bucket/m", "s3://bucket/m"])
def test_addresses_are_absolute(path: str) -> None:
    assert from_flags._models(parsed(f"--model_base_path={path}"))[0].base_path == path
