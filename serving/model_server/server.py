"""Runs the model server: in the foreground for a deployment, or beside other work for a pipeline or a test."""

from __future__ import annotations

import errno
import logging
import math
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import uvicorn

from adclick.schema.model_name import DEFAULT_MODEL_NAME
from adclick.serving.errors import InternalError, UnavailableError
from adclick.serving.foreground import settle, stopping_on_signals
from adclick.serving.model_server.batching import BatchingRunner, Runner, SingleRunner
from adclick.serving.model_server.configuration import PROMETHEUS_PATH, BatchingOptions, ModelConfig, SslOptions
from adclick.serving.model_server.dataplane import ModelServer, ServerOptions
from adclick.serving.model_server.grpc_services import GrpcOptions, create_server
from adclick.serving.model_server.http import create_app
from adclick.serving.model_server.metrics import Metrics

logger = logging.getLogger(__name__)

#: An application may load models at its start, each of which takes its time.
_START_SECONDS = 600.0
_LOOK_SECONDS = 0.1
#: How long what has begun may take at the end, in seconds: less than Kubernetes waits before it kills.
_SHUTDOWN_SECONDS = 15
#: For how long an idle connection is kept: longer than load balancers and clients keep theirs (Google's for 600 s), or
#: requests would be sent into connections that end.
_KEEP_ALIVE_SECONDS = 620


@dataclass(frozen=True)
class Endpoints:
    """Where a model server listens, and how it speaks there.

    Attributes:
        host: The address; 0.0.0.0 for all of the machine's.
        rest_host: The address of the REST API if it is another; :: for all of the machine's, of IPv4 and IPv6.
        rest_port: The port of the REST API; 0 for any free one, None for no REST API.
        grpc_port: The port of the gRPC API; 0 for any free one, None for no gRPC API at a port.
        grpc_socket_path: A Unix socket for the gRPC API; none if empty.
        ssl: Certificates of the gRPC API; clear text if None.
        grpc_channel_arguments: gRPC's own settings.
        grpc: How the gRPC API speaks.
        rest_timeout_seconds: After how long a REST request is given up.
        prometheus_path: Where the REST API has the metrics; None for nowhere.
        allows_cross_origin: Whether web pages of other origins may read the REST API's answers.
    """

    host: str = "127.0.0.1"
    rest_host: str = ""
    rest_port: int | None = 8501
    grpc_port: int | None = None
    grpc_socket_path: str = ""
    ssl: SslOptions | None = None
    grpc_channel_arguments: tuple[tuple[str, str | int], ...] = ()
    grpc: GrpcOptions = field(default_factory=GrpcOptions)
    rest_timeout_seconds: float = 30.0
    prometheus_path: str | None = PROMETHEUS_PATH
    allows_cross_origin: bool = False


@dataclass(frozen=True)
class RunningServer:
    """A server that answers.

    Attributes:
        model_server: What answers, for callers in the same process.
        port: The port of its REST API; 0 if it has none.
        url: The address that a client is given, such as http://127.0.0.1:8501.
        grpc_port: The port of its gRPC API; 0 if it has none.
        model_name: The name of its first model.
    """

    model_server: ModelServer
    port: int
    url: str
    grpc_port: int
    model_name: str


def create_model_server(
    models: tuple[ModelConfig, ...],
    options: ServerOptions | None = None,
    batching: BatchingOptions | None = None,
    per_model_batching: bool = False,
) -> ModelServer:
    """Builds what answers requests, with a batching queue or, if `batching` is None, without."""
    metrics = Metrics()
    runner: Runner = SingleRunner()
    if batching is not None:
        runner = BatchingRunner(batching, metrics, per_model_batching)
    return ModelServer(models, options=options, runner=runner, metrics=metrics)


def serve(
    model_base_path: str | Path,
    *,
    model_name: str = DEFAULT_MODEL_NAME,
    endpoints: Endpoints | None = None,
    poll_seconds: float = 1.0,
) -> None:
    """Serves the newest version under a folder until SIGTERM or SIGINT, then answers what it has begun and returns.

    Requests are refused with NOT_FOUND while there is no version. Must be called in the main thread.

    Args:
        model_base_path: The folder that holds a folder per version.
        model_name: The model's name in addresses.
        endpoints: Where it listens.
        poll_seconds: How often to look for a new version, in seconds.

    Raises:
        NotFoundError: The folder does not exist.
        UnavailableError: A port is in use, or the address is not this machine's.
    """
    model_server = create_model_server(
        (ModelConfig(model_name, str(model_base_path)),), ServerOptions(poll_seconds=poll_seconds), BatchingOptions()
    )
    with stopping_on_signals() as stopping, listening(model_server, endpoints or Endpoints(), model_name=model_name):
        settle()
        stopping.wait()


@contextmanager
def running_server(
    model_base_path: str | Path,
    *,
    model_name: str = DEFAULT_MODEL_NAME,
    rest_port: int = 0,
    grpc_port: int | None = None,
    host: str = "127.0.0.1",
    poll_seconds: float = 1.0,
    available_within_seconds: float = 60.0,
) -> Iterator[RunningServer]:
    """Runs a server in threads for the length of a `with` block, which begins when a version is available.

    Args:
        model_base_path: The folder that holds a folder per version.
        model_name: The model's name in addresses.
        rest_port: The port of the REST API; 0 for any free one.
        grpc_port: The port of the gRPC API; 0 for any free one, None for none.
        host: The address to listen at.
        poll_seconds: How often to look for a new version, in seconds.
        available_within_seconds: How long to wait for a version, in seconds.

    Raises:
        NotFoundError: The folder does not exist.
        UnavailableError: The port is in use, or no version became available in time; says why.
    """
    model_server = create_model_server(
        (ModelConfig(model_name, str(model_base_path)),), ServerOptions(poll_seconds=poll_seconds), BatchingOptions()
    )
    endpoints = Endpoints(host=host, rest_port=rest_port, grpc_port=grpc_port)
    with listening(model_server, endpoints, model_name=model_name) as running:
        model_server.wait_until_available(available_within_seconds)
        yield running


@contextmanager
def listening(model_server: ModelServer, endpoints: Endpoints, *, model_name: str = "") -> Iterator[RunningServer]:
    """Loads the models, then answers at the endpoints for the length of a `with` block; what has begun is answered.

    Raises:
        NotFoundError: A model's folder does not exist.
        FailedPreconditionError: A label stands for a version that is not available.
        UnavailableError: A port is in use, or the address is not this machine's.
    """
    with ExitStack() as stack:
        listener = None
        if endpoints.rest_port is not None:
            listener = stack.enter_context(listen(endpoints.rest_host or endpoints.host, endpoints.rest_port))
        ending = _Ending()
        stack.callback(lambda: model_server.stop(ending.remaining_seconds()))
        model_server.start()
        grpc_port = 0
        grpc_server = None
        if endpoints.grpc_port is not None or endpoints.grpc_socket_path:
            grpc_server, grpc_port = create_server(
                model_server,
                address=None if endpoints.grpc_port is None else _address(endpoints.host, endpoints.grpc_port),
                socket_path=endpoints.grpc_socket_path,
                ssl=endpoints.ssl,
                channel_arguments=endpoints.grpc_channel_arguments,
                options=endpoints.grpc,
            )
            grpc_server.start()
            stack.callback(_end_grpc, grpc_server, ending)
            logger.info("gRPC API at %s:%d %s", endpoints.host, grpc_port, endpoints.grpc_socket_path)
        port, url = 0, ""
        if listener is not None:
            app = create_app(
                model_server,
                timeout_seconds=endpoints.rest_timeout_seconds,
                prometheus_path=endpoints.prometheus_path,
                allows_cross_origin=endpoints.allows_cross_origin,
            )
            stack.enter_context(answering(app, listener))
            port, url = listener.getsockname()[1], address_of(listener)
            logger.info("REST API at %s", url)
        if grpc_server is not None:
            # It refuses new requests while those over REST are answered.
            stack.callback(grpc_server.stop, _SHUTDOWN_SECONDS)
        stack.callback(ending.begin)
        yield RunningServer(model_server, port, url, grpc_port, model_name)


class _Ending:
    """The time that is left for what has begun, from the moment when the server ends."""

    def __init__(self) -> None:
        self._deadline = math.inf

    def begin(self) -> None:
        self._deadline = time.monotonic() + _SHUTDOWN_SECONDS

    def remaining_seconds(self) -> float:
        return min(float(_SHUTDOWN_SECONDS), max(0.0, self._deadline - time.monotonic()))


def _end_grpc(server: grpc.Server, ending: _Ending) -> None:
    server.stop(ending.remaining_seconds()).wait()


@contextmanager
def answering(app: Any, listener: socket.socket, **options: Any) -> Iterator[None]:
    """Runs an ASGI application on a bound socket in a thread for the length of a `with` block.

    Args:
        app: The application.
        listener: A socket that `listen` gave.
        options: uvicorn's, such as its TLS files.

    Raises:
        UnavailableError: It did not start in time.
    """
    server = _Server(
        uvicorn.Config(
            app,
            **{
                "log_config": None,
                "access_log": False,
                "lifespan": "off",
                "ws": "none",
                "http": "httptools",
                "loop": "uvloop",
                "server_header": False,
                "timeout_keep_alive": _KEEP_ALIVE_SECONDS,
                "timeout_graceful_shutdown": _SHUTDOWN_SECONDS,
                **options,
            },
        )
    )
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="rest", daemon=True)
    thread.start()
    try:
        deadline = time.monotonic() + _START_SECONDS
        while not server.ready.wait(_LOOK_SECONDS):
            if not thread.is_alive() and not server.ready.is_set():
                raise InternalError(f"the server at {address_of(listener)} ended while it started")
            if time.monotonic() > deadline:
                raise UnavailableError(
                    f"the server at {address_of(listener)} did not start within {_START_SECONDS:g} s"
                )
        yield
    finally:
        server.should_exit = True
        thread.join()


class _Server(uvicorn.Server):
    """uvicorn, which tells when it listens and leaves the process's signals to its caller."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def listen(host: str, port: int) -> socket.socket:
    """A socket bound to an address, which refuses connections until a server listens on it.

    Raises:
        UnavailableError: The port is in use, or the address is not this machine's.
    """
    if host == "::" and not socket.has_dualstack_ipv6():
        host = "0.0.0.0"
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        if host == "::":
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UnavailableError(f"cannot listen at {host}, port {port}: {reason}") from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise UnavailableError(
                f"port {port} of {host} is already in use: stop the server that has it, or choose another port"
            ) from error
        raise UnavailableError(f"cannot listen at {host}, port {port}: {error.strerror}") from error
    return listener


def address_of(listener: socket.socket) -> str:
    """The address that a client is given."""
    host, port = listener.getsockname()[:2]
    return f"http://{_address(host, port)}"


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
