"""`tensorflow_model_server`: the model server behind TensorFlow Serving's own command line."""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Sequence
from importlib import metadata

#: What TensorFlow Serving exits with when its flags are wrong or it cannot start.
_FAILED = 255
_PROGRAM = "tensorflow_model_server"


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
    if unknown:
        print(f"unknown argument: {unknown[0]}\n{parser.format_help()}")
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
    if not flags.model_base_path and not flags.model_config_file:
        print(parser.format_help())
        return _FAILED
    # TensorFlow's import takes seconds, and speaks: not before the flags are known to be right.
    warnings.filterwarnings("ignore", category=FutureWarning)
    from serving.errors import ServingError
    from serving.model_server.from_flags import run

    try:
        run(flags)
    except ServingError as error:
        print(f"Failed to start server. Error: {error.described()}", file=sys.stderr)
        return _FAILED
    return 0


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
    add("--rest_api_num_threads", type=int, default=0, help="Accepted; REST requests share one event loop.")
    add("--rest_api_timeout_in_ms", type=int, default=30000, help="After how long a REST request is given up.")
    flag("rest_api_enable_cors_support", False, "Let web pages of other origins read the REST API's answers.")
    flag("enable_batching", False, "Gather requests into batches.")
    add("--batching_parameters_file", default="", help="BatchingParameters in protobuf's text form.")
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
    add("--grpc_max_threads", type=int, default=0, help="gRPC requests answered at the same time.")
    add("--tensorflow_session_parallelism", type=int, default=0, help="Threads of both kinds; 0 for a good number.")
    add("--tensorflow_intra_op_parallelism", type=int, default=0, help="Threads within an operation.")
    add("--tensorflow_inter_op_parallelism", type=int, default=0, help="Operations at the same time.")
    flag("enable_signature_method_name_check", False, "Refuse signatures that are declared for another API.")
    # What TensorFlow Serving has and this server needs no setting for.
    add("--max_num_load_retries", type=int, default=5, help="Accepted; a version is tried anew when its files change.")
    add("--load_retry_interval_micros", type=int, default=60_000_000, help="Accepted; see --max_num_load_retries.")
    add("--num_load_threads", type=int, default=0, help="Accepted; each model loads in a thread of its own.")
    add("--num_unload_threads", type=int, default=0, help="Accepted.")
    flag("flush_filesystem_caches", True, "Accepted.")
    flag("enforce_session_run_timeout", True, "Accepted; a run's answer is given up after the request's deadline.")
    flag("remove_unused_fields_from_bundle_metagraph", True, "Accepted.")
    flag("enable_profiler", True, "Accepted; there is no profiler service.")
    add("--per_process_gpu_memory_fraction", type=float, default=0.0, help="Accepted.")
    return parser


def _boolean(text: str) -> bool:
    if text.lower() in ("true", "1"):
        return True
    if text.lower() in ("false", "0"):
        return False
    raise argparse.ArgumentTypeError(f"expected true or false, got {text!r}")


if __name__ == "__main__":
    sys.exit(main())
