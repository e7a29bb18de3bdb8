"""Runs the model server: in the foreground for a deployment, or beside other work for a pipeline or a test."""

from __future__ import annotations

import errno
import logging
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import uvicorn

from serving.errors import UnavailableError
from serving.model_server.dataplane import ModelServer
from serving.model_server.http import create_app
from serving.model_server.repository import ModelRepository

logger = logging.getLogger(__name__)

_START_SECONDS = 10.0
_SHUTDOWN_SECONDS = 30


@dataclass(frozen=True)
class RunningServer:
    """A server that answers.

    Attributes:
        port: The port of its REST API.
        url: The address that a client is given, such as http://127.0.0.1:8501.
        model_name: The name of its model.
    """

    port: int
    url: str
    model_name: str


def serve(
    model_base_path: Path,
    *,
    model_name: str = "adclick",
    rest_port: int = 8501,
    host: str = "127.0.0.1",
    poll_seconds: float = 1.0,
) -> None:
    """Serves the newest version under a folder until SIGTERM or SIGINT, then answers what it has begun and returns.

    It answers at once; requests are refused with NOT_FOUND until a first version is loaded. Must be called in the main
    thread.

    Args:
        model_base_path: The folder that holds a folder per version.
        model_name: The model's name in addresses.
        rest_port: The port of the REST API; 0 for any free one.
        host: The address to listen at; 0.0.0.0 for all of the machine's.
        poll_seconds: How often to look for a new version, in seconds.

    Raises:
        NotFoundError: The folder does not exist.
        UnavailableError: The port is in use, or the address is not this machine's.
    """
    repository = ModelRepository(model_name, model_base_path, poll_seconds=poll_seconds)
    listener = _listen(host, rest_port)
    with listener:
        repository.start()
        server = _server(repository)
        with _stopped_by_signals(server):
            logger.info("serving %s from %s at %s", model_name, model_base_path, _url(listener))
            try:
                server.run(sockets=[listener])
            finally:
                repository.stop()


@contextmanager
def running_server(
    model_base_path: Path,
    *,
    model_name: str = "adclick",
    rest_port: int = 0,
    host: str = "127.0.0.1",
    poll_seconds: float = 1.0,
    available_within_seconds: float = 60.0,
) -> Iterator[RunningServer]:
    """Runs a server in a thread for the length of a `with` block, which begins when a version is available.

    Args:
        model_base_path: The folder that holds a folder per version.
        model_name: The model's name in addresses.
        rest_port: The port of the REST API; 0 for any free one.
        host: The address to listen at.
        poll_seconds: How often to look for a new version, in seconds.
        available_within_seconds: How long to wait for a version, in seconds.

    Raises:
        NotFoundError: The folder does not exist.
        UnavailableError: The port is in use, or no version became available in time; says why.
    """
    repository = ModelRepository(model_name, model_base_path, poll_seconds=poll_seconds)
    with _listen(host, rest_port) as listener:
        repository.start()
        try:
            repository.wait_until_available(available_within_seconds)
            server = _server(repository)
            thread = threading.Thread(
                target=server.run, kwargs={"sockets": [listener]}, name=f"rest-{model_name}", daemon=True
            )
            thread.start()
            try:
                if not server.ready.wait(_START_SECONDS):
                    raise UnavailableError(
                        f"the REST API at {_url(listener)} did not start within {_START_SECONDS:g} s"
                    )
                yield RunningServer(port=listener.getsockname()[1], url=_url(listener), model_name=model_name)
            finally:
                server.should_exit = True
                thread.join()
        finally:
            repository.stop()


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


def _server(repository: ModelRepository) -> _Server:
    config = uvicorn.Config(
        create_app(ModelServer([repository])),
        log_config=None,
        access_log=False,
        lifespan="off",
        ws="none",
        timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
    )
    return _Server(config)


@contextmanager
def _stopped_by_signals(server: _Server) -> Iterator[None]:
    def stop(number: int, frame: FrameType | None) -> None:
        # A second Ctrl-C does not wait for requests.
        server.force_exit = server.should_exit and number == signal.SIGINT
        server.should_exit = True

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise UnavailableError(f"cannot listen at {host}, port {port}: {error.strerror or error}") from error
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


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
