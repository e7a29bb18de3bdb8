"""`adclick serve`, and `adclick-gateway` without the pipeline: the model server and the ad API in one process."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer
from rich.console import Console

from adclick.schema.errors import ConfigError
from adclick.serving.command_line import run_command_line
from adclick.serving.errors import Code, ServingError
from adclick.serving.foreground import settle, stopping_on_signals
from adclick.serving.script import run_script

if TYPE_CHECKING:
    from adclick.serving.gateway.pipeline_runs import PipelineRuns

logger = logging.getLogger(__name__)

#: The context's object, where there is one, finds runs; what follows `--models-only` are the model server's own flags.
SERVE_CONTEXT = {"allow_extra_args": True, "ignore_unknown_options": True}
_ASKED_IN_VAIN = frozenset({Code.INVALID_ARGUMENT, Code.NOT_FOUND, Code.FAILED_PRECONDITION, Code.UNAVAILABLE})


def serve(
    context: typer.Context,
    model_base_path: Annotated[
        str | None, typer.Option(help="The push directory of one model: a folder per version.")
    ] = None,
    gateway_config: Annotated[Path | None, typer.Option(help="The gateway's settings; see serving/README.md.")] = None,
    development: Annotated[
        bool, typer.Option("--development", help="Let anyone on this machine ask, without an API key.")
    ] = False,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Where the ad API listens.")] = 8080,
    rest_port: Annotated[int, typer.Option(min=0, max=65535, help="Where TensorFlow Serving's REST API is.")] = 8501,
    grpc_port: Annotated[int, typer.Option(min=0, max=65535, help="Where TensorFlow Serving's gRPC API is.")] = 8500,
    host: Annotated[str, typer.Option(help="The address that the ad API listens at.")] = "127.0.0.1",
    model_name: Annotated[str | None, typer.Option(help="The model's name; `adclick` by default.")] = None,
    poll_seconds: Annotated[float, typer.Option(min=0.1, help="How often to look for a new version.")] = 1.0,
    models_only: Annotated[
        bool,
        typer.Option(
            "--models-only", help="Be `tensorflow_model_server`: what follows are TensorFlow Serving's flags."
        ),
    ] = False,
) -> None:
    """Answer "will this user click this ad?" from a push directory, loading each new version as it appears.

    It serves the ad API, its page for people, and TensorFlow Serving's REST and gRPC APIs.
    """
    if models_only:
        from adclick.serving.model_server.command import main as model_server_main

        raise typer.Exit(model_server_main(context.args))
    if context.args:
        raise typer.BadParameter(f"no such option: {context.args[0]}")
    run_serve(
        model_base_path=model_base_path,
        gateway_config=gateway_config,
        development=development,
        host=host,
        ports=(port, rest_port, grpc_port),
        model_name=model_name,
        poll_seconds=poll_seconds,
        find_runs=context.obj or _no_runs,
    )


def _no_runs(push_directory: str) -> PipelineRuns | None:
    """Finds no runs: the gateway alone knows nothing of a pipeline."""
    return None


def main() -> None:
    """Runs `adclick-gateway`."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command(context_settings=SERVE_CONTEXT)(serve)
    run_command_line(app, Console(stderr=True, markup=False, emoji=False, highlight=False, soft_wrap=True))


def script() -> NoReturn:
    """The console script `adclick-gateway`."""
    run_script(main)


def run_serve(
    *,
    model_base_path: str | None,
    gateway_config: Path | None,
    development: bool,
    host: str,
    ports: tuple[int, int, int],
    model_name: str | None,
    poll_seconds: float,
    find_runs: Callable[[str], PipelineRuns | None] = _no_runs,
) -> None:
    """Serves until SIGTERM or SIGINT, then answers what it has begun and returns.

    Args:
        model_base_path: The push directory; counts before the one in the settings.
        gateway_config: The gateway's settings; defaults if None.
        development: Whether anyone on this machine may ask.
        host: Where the ad API listens. TensorFlow Serving's APIs, which know no keys, stay on this machine.
        ports: Of the ad API, of TensorFlow Serving's REST API and of its gRPC API.
        model_name: The model's name; counts before the one in the settings.
        poll_seconds: How often to look for a new version, in seconds.
        find_runs: Finds the runs that pushed to a push directory; None where they are not at hand.

    Raises:
        ConfigError: The options do not say which model to serve, or what they or the settings name is not there,
            cannot be used or is in use.
        ServingError: The server failed.
    """
    # With the settings come libraries that no other command needs.
    from adclick.serving.gateway.settings import GatewaySettings, load_settings

    try:
        settings = load_settings(gateway_config) if gateway_config is not None else GatewaySettings()
    except ServingError as error:
        raise ConfigError(error.message) from error
    backend = settings.backend
    given = {"model_base_path": model_base_path, "model_name": model_name}
    backend = backend.model_copy(update={name: value for name, value in given.items() if value is not None})
    settings = settings.model_copy(update={"backend": backend})
    if not development and settings.security.api_keys_file is None and settings.security.client_authority_file is None:
        raise ConfigError(
            "anyone could ask",
            "Give --gateway-config with security.api_keys_file (see `adclick api-key`), or --development to let anyone "
            "on this machine ask.",
        )
    if backend.kind == "in_process" and not backend.model_base_path:
        raise ConfigError("no model to serve", "Give --model-base-path, the push directory.")
    _log_to_streams()
    # TensorFlow's import takes seconds, and speaks: not before the options are known to be right.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from adclick.serving.gateway.server import running_gateway
    from adclick.serving.model_server.configuration import BatchingOptions, ModelConfig
    from adclick.serving.model_server.dataplane import ServerOptions
    from adclick.serving.model_server.server import Endpoints, create_model_server, listening

    gateway_port, rest_port, grpc_port = ports
    with ExitStack() as stack:
        stack.enter_context(_told_as_config())
        stopping = stack.enter_context(stopping_on_signals())
        model_server = None
        if backend.kind == "in_process":
            models = (ModelConfig(backend.model_name, backend.model_base_path),)
            # The gateway routes by labels, and answers for those whose version is not there.
            options = ServerOptions(
                poll_seconds=poll_seconds, labels_unavailable_versions=True, moves_labels_to_unavailable_versions=True
            )
            model_server = create_model_server(models, options, BatchingOptions())
            endpoints = Endpoints(rest_port=rest_port, grpc_port=grpc_port)
            stack.enter_context(listening(model_server, endpoints, model_name=backend.model_name))
        running = stack.enter_context(
            running_gateway(
                settings,
                host=host,
                port=gateway_port,
                model_server=model_server,
                settings_file=gateway_config,
                is_open=development,
                runs=find_runs(backend.model_base_path),
            )
        )
        if development:
            logger.warning("development mode: anyone on this machine may ask; no API key is needed")
        logger.info("ad API at %s; what it takes: %s/docs", running.url, running.url)
        if settings.console.enabled:
            logger.info("page for people: %s/", running.url)
        settle()
        stopping.wait()


@contextmanager
def _told_as_config() -> Iterator[None]:
    """Tells what was asked for in vain, such as a port or a file of the settings, as what the user can put right."""
    try:
        yield
    except ServingError as error:
        if error.code in _ASKED_IN_VAIN:
            raise ConfigError(error.message) from error
        raise


def _log_to_streams() -> None:
    """What happens to stderr, for people; a line of JSON for each request to stdout, for programs."""
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname).1s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    # It speaks of its own parts that are to go, which nobody who serves can change.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    access = logging.StreamHandler(sys.stdout)
    access.setFormatter(logging.Formatter("%(message)s"))
    access_logger = logging.getLogger("adclick.access")
    access_logger.handlers = [access]
    access_logger.propagate = False
