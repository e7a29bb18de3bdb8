"""The client against servers that misbehave."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from adclick.serving.client.client import ModelServerClient, ModelServerError
from adclick.serving.errors import Code

PREDICTIONS = (200, json.dumps({"predictions": [0.5]}).encode())
BUSY = (503, json.dumps({"error": "try later"}).encode())


class ScriptedServer(ThreadingHTTPServer):
    """Answers requests with the given answers in turn, the last one over and over, and keeps what was asked."""

    def __init__(self, answers: Sequence[tuple[int, bytes]]) -> None:
        super().__init__(("127.0.0.1", 0), ScriptedHandler)
        self.answers = list(answers)
        self.requests: list[tuple[str, bytes]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class ScriptedHandler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        assert isinstance(self.server, ScriptedServer)
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.requests.append((self.path, body))
        status, content = self.server.answers.pop(0) if len(self.server.answers) > 1 else self.server.answers[0]
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@contextmanager
def answering(*answers: tuple[int, bytes]) -> Iterator[ScriptedServer]:
    with ScriptedServer(answers) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join(120)
            assert not thread.is_alive()


def test_sends_what_tensorflow_serving_reads() -> None:
    with answering(PREDICTIONS) as server, ModelServerClient(server.url + "/", "ad click") as client:
        assert client.predict([{"image": b"\x00\xff", "age": float("nan")}], signature_name="score", version=3) == [0.5]
        path, body = server.requests[0]
        assert path == "/v1/models/ad%20click/versions/3:predict"
        assert body == b'{"instances":[{"image":{"b64":"AP8="},"age":NaN}],"signature_name":"score"}'


def test_tries_again_while_the_server_is_busy() -> None:
    with answering(BUSY, BUSY, PREDICTIONS) as server, ModelServerClient(server.url) as client:
        assert client.predict([1]) == [0.5]
        assert len(server.requests) == 3


def test_gives_up_in_the_end() -> None:
    with answering(BUSY) as server, ModelServerClient(server.url, retries=1) as client:
        with pytest.raises(ModelServerError, match="try later") as refusal:
            client.predict([1])
        assert (refusal.value.code, refusal.value.http_status) == (Code.UNAVAILABLE, 503)
        assert len(server.requests) == 2


@pytest.mark.parametrize(("status", "code"), [(400, Code.INVALID_ARGUMENT), (404, Code.NOT_FOUND), (500, Code.UNKNOWN)])
def test_asks_once_when_refused(status: int, code: Code) -> None:
    refusal = (status, b'{"error": "no"}')
    with answering(refusal) as server, ModelServerClient(server.url) as client:
        with pytest.raises(ModelServerError, match=r"^no$") as raised:
            client.predict([1])
        assert (raised.value.code, raised.value.http_status) == (code, status)
        assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ((200, b"<html>"), "answered 200 with something other than a JSON object: '<html>'"),
        ((502, b"Bad gateway"), "answered 502 with something other than a JSON object: 'Bad gateway'"),
        ((200, b'{"outputs": 1}'), "the answer has no list 'predictions'"),
    ],
)
def test_says_what_it_got_instead(answer: tuple[int, bytes], message: str) -> None:
    with (
        answering(answer) as server,
        ModelServerClient(server.url) as client,
        pytest.raises(ModelServerError) as raised,
    ):
        client.predict([1])
    assert message in raised.value.message


def test_names_the_address_that_does_not_answer() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
    with ModelServerClient(url, retries=1) as client, pytest.raises(ModelServerError, match=url) as raised:
        client.predict([1])
    assert (raised.value.code, raised.value.http_status) == (Code.UNAVAILABLE, None)


def test_stops_waiting_at_the_deadline() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with (
            ModelServerClient(url, timeout_seconds=0.2) as client,
            pytest.raises(ModelServerError, match=r"did not answer within 0\.2 s") as raised,
        ):
            client.predict([1])
    assert raised.value.code is Code.DEADLINE_EXCEEDED
