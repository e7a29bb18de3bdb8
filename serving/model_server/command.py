"""`tensorflow_model_server`: the model server behind TensorFlow Serving's own command line."""

from __future__ import annotations

import argparse
import os
import sys
import threading
import time
import warnings
from collections.abc import Sequence
from importlib import metadata
from typing import NoReturn

from adclick.serving.script import run_script

#: What TensorFlow Serving exits with when its flags are wrong or it cannot start.
_FAILED = 255
_PROGRAM = "tensorflow_model_server"
#: How long the process waits at the end for runs that do not end when they are cancelled.
_LAST_SECONDS = 2.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Serves until SIGTERM or SIGINT.

    Args:
        arguments: The flags; those of the process if None.

    Returns:
        The exit code: 0 after a signal, 255 if the flags or files are wrong or it cannot start.
    """
    parser = _parser()
    try:
        flags, unknown = parser.parse_known_args(arguments)
    except argparse.ArgumentError as error:
        print(f"{error}\n{parser.format_help()}")
        return _FAILED
    if flags.help:
        print(parser.format_help())
        return 0
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_USE_LEGACY_KERAS", "0")
    if flags.version:
        print(f"TensorFlow ModelServer: adclick {metadata.version('adclick')}")
        print(f"TensorFlow Library: {metadata.version('tensorflow')}")
        return 0
    if unknown:
        print(f"unknown argument: {unknown[0]}\n{parser.format_help()}", flush=True)
    if fault := _contradiction(flags):
        print(f"Failed to start server. Error: INVALID_ARGUMENT: {fault}")
        return _FAILED
    # TensorFlow's import takes seconds, and speaks: not before the flags are known to be right.
    warnings.filterwarnings("ignore", category=FutureWarning)
    from adclick.serving.errors import ServingError
    from adclick.serving.model_server.from_flags import run

    try:
        run(flags)
    except ServingError as error:
        print(f"Failed to start server. Error: {error.described()}")
        return _FAILED
    return _ended()


def script() -> NoReturn:
    """The console script `tensorflow_model_server`."""
    run_script(main)


def _contradiction(flags: argparse.Namespace) -> str:
    """What is wrong with the flags together; empty if nothing is."""
    if flags.port == 0 and not flags.grpc_socket_path:
        return "At least one of server_options.grpc_port or server_options.grpc_socket_path must be set."
    if flags.use_alts_credentials and flags.ssl_config_file:
        return "Either use_alts_credentials must be false or ssl_config_file must be empty."
    if not flags.model_base_path and not flags.model_config_file:
        return "Both server_options.model_base_path and server_options.model_config_file are empty!"
    if flags.batching_parameters_file and not flags.enable_batching:
        return "server_options.batching_parameters_file is set without setting server_options.enable_batching to true."
    if (
        min(
            flags.tensorflow_intra_op_parallelism,
            flags.tensorflow_inter_op_parallelism,
            flags.tensorflow_session_parallelism,
        )
        > 0
    ):
        return (
            "Either configure server_options.tensorflow_session_parallelism or "
            "(server_options.tensorflow_intra_op_parallelism, server_options.tensorflow_inter_op_parallelism) "
            "separately. You cannot configure all."
        )
    return ""


def _ended() -> int:
    """Waits a moment for threads that still run something, then ends the process without them."""
    deadline = time.monotonic() + _LAST_SECONDS
    others = [thread for thread in threading.enumerate() if thread is not threading.main_thread()]
    for thread in others:
        if not thread.daemon:
            thread.join(max(0.0, deadline - time.monotonic()))
    if any(thread.is_alive() and not thread.daemon for thread in others):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)
    return 0


#: Flags without effect: their type, their default and why.
INERT: dict[str, tuple[type, str | int | bool, str]] = {
    "rest_api_num_threads": (int, 0, "REST requests share one event loop"),
    "num_load_threads": (int, 0, "each model loads in a thread of its own"),
    "num_unload_threads": (int, 0, "each model unloads in a thread of its own"),
    "flush_filesystem_caches": (bool, True, "no file is kept in a cache"),
    "remove_unused_fields_from_bundle_metagraph": (bool, True, "only signatures are kept of a model's description"),
    "platform_config_file": (str, "", "SavedModels are the only platform; see the flags of sessions and batching"),
    "thread_pool_factory_config_file": (str, "", "there is no thread pool factory but TensorFlow's own"),
    "num_tflite_interpreters_per_pool": (int, 0, "a run has an interpreter of its own; see --num_tflite_pools"),
    "xla_cpu_compilation_enabled": (bool, False, "TensorFlow compiles what a model marks for XLA in any case"),
    "xla_gpu_compilation_enabled": (bool, False, "TensorFlow compiles what a model marks for XLA in any case"),
    "skip_initialize_tpu": (bool, False, "there is no support for TPUs"),
}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=_PROGRAM,
        description="Serves SavedModels as TensorFlow Serving does, by the same flags, over REST and gRPC.",
        allow_abbrev=False,
        add_help=False,
        exit_on_error=False,
    )
    add = parser.add_argument

    def flag(name: str, default: bool, text: str) -> None:
        add(f"--{name}", type=_boolean, nargs="?", const=True, default=default, metavar="true|false", help=text)

    add("--help", action="store_true", help="Show this text.")
    flag("version", False, "Show the version.")
    add("--port", type=int, default=8500, help="Port of the gRPC API.")
    add("--grpc_socket_path", default="", help="Unix socket of the gRPC API, besides the port.")
    add("--rest_api_port", type=int, default=0, help="Port of the REST API; 0 for no REST API.")
    add("--rest_api_timeout_in_ms", type=int, default=30000, help="After how long a REST request is given up.")
    flag("rest_api_enable_cors_support", False, "Let web pages of other origins read the REST API's answers.")
    flag("enable_batching", False, "Gather requests into batches.")
    add("--batching_parameters_file", default="", help="BatchingParameters in protobuf's text form.")
    flag("enable_per_model_batching_parameters", False, "Take them, but for threads, from batching_params.pbtxt.")
    add("--model_config_file", default="", help="ModelServerConfig in protobuf's text form; for several models.")
    add(
        "--model_config_file_poll_wait_seconds",
        type=int,
        default=0,
        help="How often to read that file again; 0 for never.",
    )
    add("--model_name", default="default", help="Name of the model, where there is no --model_config_file.")
    add("--model_base_path", default="", help="Folder that holds a folder per version, local or gs://.")
    add(
        "--file_system_poll_wait_seconds",
        type=int,
        default=1,
        help="How often to look for new versions; 0 to look once, below 0 never.",
    )
    add("--saved_model_tags", default="serve", help="Comma-separated tags of the graph to load.")
    flag("enable_model_warmup", True, "Run assets.extra/tf_serving_warmup_requests before a version is served.")
    add("--num_request_iterations_for_warmup", type=int, default=1, help="How often each of them runs.")
    flag("allow_version_labels_for_unavailable_models", False, "A new label may stand for a version still to come.")
    flag("force_allow_any_version_labels_for_unavailable_models", False, "A label in use may, too.")
    add("--monitoring_config_file", default="", help="MonitoringConfig in protobuf's text form.")
    add("--ssl_config_file", default="", help="SSLConfig in protobuf's text form, for the gRPC API.")
    add("--grpc_channel_arguments", default="", help="Comma-separated KEY=VALUE settings of gRPC.")
    add("--grpc_max_threads", type=int, default=0, help="gRPC requests answered at the same time; 0 for a good number.")
    add("--tensorflow_session_parallelism", type=int, default=0, help="Threads of both kinds; 0 for a good number.")
    add("--tensorflow_intra_op_parallelism", type=int, default=0, help="Threads within an operation.")
    add("--tensorflow_inter_op_parallelism", type=int, default=0, help="Operations at the same time.")
    flag("enable_signature_method_name_check", False, "Refuse signatures that are declared for another API.")
    add("--tensorflow_session_config_file", default="", help="ConfigProto in protobuf's text form.")
    add("--per_process_gpu_memory_fraction", type=float, default=0.0, help="Of a GPU's memory; 0 for what it takes.")
    add("--mixed_precision", default="", help="bfloat16 for operations in bfloat16 where the CPU has it.")
    add("--max_num_load_retries", type=int, help="How often a version that failed is tried again; its files apart.")
    add("--load_retry_interval_micros", type=int, help="After how long it is, in microseconds.")
    flag("prefer_tflite_model", False, "Serve a version's model.tflite, where it has one.")
    add(
        "--num_tflite_pools", type=int, default=0, help="Runs of it at the same time; 0 for as many as there are cores."
    )
    flag("enable_profiler", True, "Answer TensorFlow's profiler service, for TensorBoard's captures.")
    flag("enable_grpc_healthcheck_service", False, "Answer gRPC's health service.")
    flag("enable_serialization_as_tensor_content", False, "Answer Predict with packed tensors.")
    flag("use_alts_credentials", False, "Secure the gRPC API by Google's ALTS.")
    # What TensorFlow Serving has and this server cannot do, or has no need of: it says so once.
    for name, (kind, default, reason) in INERT.items():
        if kind is bool:
            flag(name, bool(default), f"Without effect: {reason}.")
        else:
            add(f"--{name}", type=kind, default=default, help=f"Without effect: {reason}.")
    return parser


def _boolean(text: str) -> bool:
    if text.lower() in ("true", "1"):
        return True
    if text.lower() in ("false", "0"):
        return False
    raise argparse.ArgumentTypeError(f"expected true or false, got {text!r}")


if __name__ == "__main__":
    script()
