"""A roll-out of the model server, or a push, costs no request; and what is asked again never becomes a storm."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
import struct
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pytest

from adclick.serving.errors import Code, InvalidArgumentError, ServingError
from adclick.serving.gateway.backends import GrpcBackend
from adclick.serving.gateway.retries import Retries, ServerGone, is_gone
from adclick.serving.gateway.server import running_gateway
from adclick.serving.gateway.settings import GatewaySettings
from adclick.serving.model_server.server import running_server
from tests.models.tiny_model import TinyModel

SECONDS = 120.0
ONE = {"context": {"site": "site3"}, "ads": [{"ad": "ad0"}]}


class Balancer:
    """A port that leads to one of several servers, as a Kubernetes Service does: chosen for each connection."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.target = 0
        self.accepted = 0
        self._open: set[socket.socket] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self.accepted += 1
                try:
                    server = socket.create_connection(("127.0.0.1", self.target))
                except OSError:
                    client.close()
                    continue
                self._open |= {client, server}
                for source, sink in ((client, server), (server, client)):
                    threading.Thread(target=self._pass_on, args=(source, sink), daemon=True).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        for each in (source, sink):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            self._open.discard(each)

    @property
    def connected(self) -> int:
        """How many connections there are."""
        return len(self._open) // 2

    def reset_all(self) -> None:
        """Breaks every connection, as a pod that is deleted by force does."""
        for each in list(self._open):
            with contextlib.suppress(OSError):
                each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                each.shutdown(socket.SHUT_RDWR)
        self._open.clear()

    def close(self) -> None:
        self.reset_all()
        self._listener.close()


@pytest.fixture
def balancer() -> Iterator[Balancer]:
    balancer = Balancer()
    yield balancer
    balancer.close()


@pytest.mark.parametrize("kind", ["grpc", "rest"])
def test_no_request_fails_in_a_roll_out(kind: str, balancer: Balancer, tiny_model: TinyModel, tmp_path: Path) -> None:
    base = tmp_path / "base"
    shutil.copytree(tiny_model.folder, base / "1")
    address = f"127.0.0.1:{balancer.port}"
    backend = {
        "kind": kind,
        "address": address if kind == "grpc" else f"http://{address}",
        "timeout_seconds": SECONDS,
    }
    settings = GatewaySettings.model_validate({"backend": backend, "limits": {"rate": ""}, "log": {"access": False}})

    def start(stack: ExitStack) -> int:
        models = stack.enter_context(running_server(base, grpc_port=0, poll_seconds=0.2))
        return models.grpc_port if kind == "grpc" else models.port

    servers = [ExitStack()]
    balancer.target = start(servers[0])
    finished = threading.Event()
    failures: list[str] = []
    answered = [0]

    def ask(url: str) -> None:
        with httpx.Client(base_url=url, trust_env=False, timeout=SECONDS) as client:
            while not finished.is_set():
                answer = client.post("/v1/score", json=ONE)
                if answer.status_code != 200:
                    failures.append(answer.text)
                answered[0] += 1

    def wait_for_more(count: int) -> None:
        wanted, deadline = answered[0] + count, time.monotonic() + SECONDS
        while answered[0] < wanted and not failures:
            assert time.monotonic() < deadline, "no more answers"
            time.sleep(0.01)

    try:
        with running_gateway(settings, is_open=True) as running:
            threads = [threading.Thread(target=ask, args=(running.url,), daemon=True) for _ in range(4)]
            for thread in threads:
                thread.start()
            wait_for_more(20)
            for _ in range(4):
                servers.append(ExitStack())
                balancer.target = start(servers[-1])
                servers.pop(0).close()
                wait_for_more(20)
            for _ in range(2):
                balancer.reset_all()
                wait_for_more(20)
            finished.set()
            for thread in threads:
                thread.join(SECONDS)
                assert not thread.is_alive()
            metrics = httpx.get(f"{running.url}/metrics", trust_env=False).text
    finally:
        finished.set()
        for server in servers:
            server.close()
    assert not failures
    outcomes = {
        line.partition('outcome="')[2].partition('"')[0]: float(line.rsplit(" ", 1)[1])
        for line in metrics.splitlines()
        if line.startswith("adclick_gateway_model_server_retries_total{")
    }
    assert outcomes["answered"] >= 1 and outcomes["failed"] == outcomes["refused"] == 0


class Server:
    """Is asked, and goes away as often as it is told to."""

    def __init__(self, goes: int) -> None:
        self.goes = goes
        self.asked: list[bool] = []

    async def __call__(self, again: bool) -> str:
        self.asked.append(again)
        if len(self.asked) <= self.goes:
            raise ServerGone("gone", Code.UNAVAILABLE)
        return "answer"


def once_more(retries: Retries, ask: Any, has_time: bool = True) -> Any:
    return asyncio.run(retries.once_more(ask, lambda: has_time))


def test_it_is_asked_once_more_and_not_twice() -> None:
    retries, server = Retries(), Server(1)
    assert once_more(retries, server) == "answer" and server.asked == [False, True]
    gone = Server(2)
    with pytest.raises(ServerGone):
        once_more(retries, gone)
    assert gone.asked == [False, True] and retries.counts == {"answered": 1, "failed": 1}
    late = Server(1)
    with pytest.raises(ServerGone):
        once_more(retries, late, has_time=False)
    assert late.asked == [False]


def test_an_answer_about_the_request_is_final() -> None:
    asked = []

    async def refuse(again: bool) -> None:
        asked.append(again)
        raise InvalidArgumentError("wrong")

    with pytest.raises(InvalidArgumentError):
        once_more(Retries(), refuse)
    assert asked == [False]
    assert is_gone(Code.CANCELLED, "") and is_gone(Code.UNAVAILABLE, "") and is_gone(Code.UNKNOWN, "Stream removed")
    assert not is_gone(Code.INTERNAL, "a matrix is singular") and not is_gone(Code.RESOURCE_EXHAUSTED, "")


def test_while_every_server_is_away_few_are_asked_again() -> None:
    retries = Retries()
    asked = 0
    for _ in range(1_000):
        server = Server(2)
        with pytest.raises(ServerGone):
            once_more(retries, server)
        asked += len(server.asked)
    assert 1_000 < asked < 1_350
    assert retries.counts["refused"] > 600


class Refusing(grpc.GenericRpcHandler):
    """A server that ends, and refuses all that it is asked."""

    def __init__(self) -> None:
        self.asked = 0

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        def refuse(request: bytes, context: grpc.ServicerContext) -> None:
            self.asked += 1
            context.abort(grpc.StatusCode.UNAVAILABLE, "the server ends")

        return grpc.unary_unary_rpc_method_handler(refuse)


def ask_at_once(backend: GrpcBackend, requests: int, seconds: float) -> int:
    """Asks so many times; says how often the server was found to be away."""

    async def ask() -> bool:
        try:
            await backend.run(1, "score", {"x": np.zeros(1, np.float32)}, "y", time.monotonic() + seconds)
        except ServingError:
            return True
        return False

    async def ask_all() -> int:
        return sum(await asyncio.gather(*(ask() for _ in range(requests))))

    return asyncio.run(ask_all())


def test_servers_that_all_refuse_are_asked_little_more_and_connections_are_closed(balancer: Balancer) -> None:
    refusing = Refusing()
    server = grpc.server(ThreadPoolExecutor(4), handlers=[refusing])
    balancer.target = server.add_insecure_port("127.0.0.1:0")
    server.start()
    backend = GrpcBackend(f"127.0.0.1:{balancer.port}", "adclick")
    try:
        for _ in range(20):
            assert ask_at_once(backend, 20, SECONDS) == 20
        assert 400 < refusing.asked <= 400 * 1.2 + 100
        deadline = time.monotonic() + SECONDS
        while balancer.connected > 1:
            assert time.monotonic() < deadline, f"{balancer.connected} connections are kept"
            time.sleep(0.01)
    finally:
        asyncio.run(backend.close())
        server.stop(None).wait(SECONDS)


def test_while_no_server_is_there_few_connections_are_tried(balancer: Balancer) -> None:
    with closing(socket.socket()) as nobody:
        nobody.bind(("127.0.0.1", 0))
        balancer.target = nobody.getsockname()[1]
        backend = GrpcBackend(f"127.0.0.1:{balancer.port}", "adclick")
        try:
            for _ in range(100):
                assert ask_at_once(backend, 1, 0.05) == 1
        finally:
            asyncio.run(backend.close())
    # Each of the hundred is asked again: a channel for each would try to connect for as long as it is kept.
    assert balancer.accepted < 300
