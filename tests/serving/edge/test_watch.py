"""The runtime as a process: frames in, alerts at real receivers, through kill -9 and days without a network."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import random
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from adclick.serving.edge.outbox import Outbox
from tests.serving.edge.pictures import encoded, picture

DEADLINE = 60.0


class Receiver(ThreadingHTTPServer):
    """A webhook that remembers what it got, and fails as often as it is told."""

    def __init__(self, port: int = 0) -> None:
        self.requests: list[tuple[dict[str, str], dict[str, Any]]] = []
        self.raw: list[bytes] = []
        self.failures = 0
        super().__init__(("127.0.0.1", port), _Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/alerts"

    def bodies(self, kind: str) -> list[dict[str, Any]]:
        return [body for _, body in self.requests if ("revision" in body) == (kind == "alert")]


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.server.failures:
            self.server.failures -= 1
            self.send_response(503)
        else:
            self.server.raw.append(body)
            self.server.requests.append(({k.lower(): v for k, v in self.headers.items()}, json.loads(body)))
            self.send_response(204)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Nothing: tests look at what was received."""


@contextmanager
def receiving(port: int = 0) -> Iterator[Receiver]:
    with Receiver(port) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def until(condition: Callable[[], Any]) -> Any:
    ends = time.monotonic() + DEADLINE
    while not (found := condition()):
        assert time.monotonic() < ends, "nothing came in time"
        time.sleep(0.05)
    return found


def show(folder: Path, *seeds: int) -> None:
    """Puts pictures into a folder, each whole at once, as a player's screenshots."""
    folder.mkdir(exist_ok=True)
    for seed in seeds:
        number = len(list(folder.iterdir()))
        (folder / ".next").write_bytes(encoded(picture(seed)))
        (folder / ".next").rename(folder / f"{number:04}.jpg")


def free_port() -> int:
    """A port below those that the system gives to clients: one who tries again and again may get its own target."""
    for port in random.sample(range(20_000, 32_000), 100):
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no free port")


def events(process: subprocess.Popen[bytes]) -> list[dict[str, Any]]:
    """Ends the runtime, and gives its log."""
    process.terminate()
    output, errors = process.communicate(timeout=DEADLINE)
    assert process.returncode == 0, errors.decode()
    return [json.loads(line) for line in output.decode().splitlines()]


def test_check_says_what_pictures_show(start: Any, tmp_path: Path) -> None:
    files = []
    for seed in (0, 1, 99):
        files.append(tmp_path / f"{seed}.png")
        files[-1].write_bytes(encoded(picture(seed), "PNG"))
    (tmp_path / "broken.png").write_bytes(b"\x89PNG")
    process = start("check", *map(str, files), str(tmp_path / "broken.png"))
    output, errors = process.communicate(timeout=DEADLINE)
    assert [json.loads(line)["kind"] for line in output.splitlines()] == ["approved", "forbidden", "unknown", "broken"]
    assert process.returncode == 3, errors


def test_what_is_no_bundle_ends_with_its_reason(start: Any, tmp_path: Path) -> None:
    (tmp_path / "none").write_bytes(b"none")
    process = start("verify", bundle=tmp_path / "none")
    assert process.wait(DEADLINE) == 4 and b"no whole archive" in process.stderr.read()


def test_an_alert_opens_and_closes_at_the_webhook_signed_with_its_plays(start: Any, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("key\n")
    relayed = tmp_path / "relayed"
    with receiving() as server:
        server.failures = 2
        show(tmp_path / "screen", 0, 0, 0)
        process = start(
            *("watch", "--source", str(tmp_path / "screen"), "--state", str(tmp_path / "state"), "--frames", "3"),
            *("--webhook", server.url, "--webhook-secret-file", str(tmp_path / "secret"), "--device", "screen-1"),
            *("--thumbnails", "--relay", f"sh -c 'cat >> {relayed}; echo >> {relayed}'"),
        )
        show(tmp_path / "screen", 99, 99, 99, 99)
        until(lambda: len(server.requests) == 1)
        show(tmp_path / "screen", 0, 0, 0)
        until(lambda: len(server.requests) == 2)
        until(lambda: relayed.exists() and len(relayed.read_text().splitlines()) == 2)
        log = events(process)
    opened, closed = server.bodies("alert")
    assert (opened["state"], opened["kind"], opened["device"], opened["creative"]) == (
        "open",
        "unknown",
        "screen-1",
        None,
    )
    assert (closed["state"], closed["id"]) == ("closed", opened["id"]) and opened["similarity"] < 0.9
    assert opened["thumbnail_jpeg"] and "thumbnail_jpeg" not in closed
    for (headers, body), raw in zip(server.requests, server.raw, strict=True):
        signed = headers["x-adclick-timestamp"].encode() + b"." + raw
        assert headers["x-adclick-signature"] == f"sha256={hmac.new(b'key', signed, hashlib.sha256).hexdigest()}"
        assert headers["idempotency-key"] == body["key"] == f"{body['id']}-{body['revision']}"
    assert [json.loads(line)["state"] for line in relayed.read_text().splitlines()] == ["open", "closed"]
    names = [entry["event"] for entry in log]
    assert names[0] == "started" and names[-1] == "stopped" and names.count("alert") == 2 and "undelivered" in names


def test_without_a_network_and_killed_nothing_is_lost_and_nothing_shown_twice(start: Any, tmp_path: Path) -> None:
    port = free_port()
    arguments = (
        *("watch", "--source", str(tmp_path / "screen"), "--state", str(tmp_path / "state"), "--frames", "2"),
        *("--webhook", f"http://127.0.0.1:{port}/"),
    )
    (tmp_path / "screen").mkdir()

    def in_outbox() -> list[dict[str, Any]]:
        return [entry for entry in written if entry["event"] == "alert" and entry["kept"]]

    keys: set[str] = set()
    for round_ in range(3):
        for name in list((tmp_path / "screen").iterdir()):
            name.unlink()
        process = start(*arguments)
        written: list[dict[str, Any]] = []

        def read(process: Any = process, written: list[dict[str, Any]] = written) -> None:
            for line in process.stdout:
                written.append(json.loads(line))

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        until(lambda: written)  # noqa: B023
        # An alert that is open goes on after the restart; only its end, and the next one's begin, are new.
        show(tmp_path / "screen", *((0, 0, 99, 99) if round_ else (99, 99)))
        until(lambda round_=round_: len(in_outbox()) == (2 if round_ else 1))
        process.send_signal(signal.SIGKILL)
        process.wait(DEADLINE)
        reader.join(DEADLINE)
        keys |= {entry["key"] for entry in in_outbox()}
    assert len(keys) == 5
    with receiving(port) as server:
        for name in list((tmp_path / "screen").iterdir()):
            name.unlink()
        process = start(*arguments)
        until(lambda: len(server.bodies("alert")) >= 5)
        events(process)
    got = [body["key"] for body in server.bodies("alert")]
    assert sorted(got) == sorted(keys), "what was on disk comes, and no key comes twice"


def test_a_lost_answer_brings_the_same_key_again(start: Any, tmp_path: Path) -> None:
    port = free_port()
    with socket.create_server(("127.0.0.1", port)) as deaf:
        process = start(
            *("watch", "--source", str(tmp_path), "--state", str(tmp_path / "state"), "--frames", "1"),
            *("--webhook", f"http://127.0.0.1:{port}/"),
        )
        (tmp_path / "screen.jpg").write_bytes(encoded(picture(99)))
        deaf.settimeout(DEADLINE)
        connection, _ = deaf.accept()
        first = connection.recv(65536)
        connection.close()
    with receiving(port) as server:
        until(lambda: server.requests)
        events(process)
    assert f"idempotency-key: {server.requests[0][1]['key']}".encode() in first.lower()


def test_standard_input_brings_jpegs_and_ends(start: Any, tmp_path: Path) -> None:
    process = start("watch", "--source", "-", "--state", str(tmp_path), "--frames", "2", stdin=subprocess.PIPE)
    stream = b"".join(encoded(picture(seed)) for seed in (0, 99, 99)) + b"\xff\xd8\xffcut"
    output, _ = process.communicate(stream, timeout=DEADLINE)
    log = [json.loads(line) for line in output.splitlines()]
    assert process.returncode == 0
    (told,) = [entry for entry in log if entry["event"] == "watching"]
    assert told["frames"] == {"approved": 1, "unknown": 2, "broken": 1}


def test_plays_are_sent_when_their_hour_is_past(tmp_path: Path, start: Any) -> None:
    with receiving() as server:
        arguments = ("--state", str(tmp_path / "state"), "--webhook", server.url, "--frames", "2", "--once")
        show(tmp_path / "screen", 0, 0, 0)
        process = start("watch", "--source", str(tmp_path / "screen"), *arguments)
        assert process.wait(DEADLINE) == 0 and not server.requests
        outbox = Outbox(tmp_path / "state/outbox.db", ["webhook"])
        outbox._database.execute("UPDATE plays SET hour = hour - 1")
        outbox.close()
        process = start("watch", "--source", str(tmp_path / "screen"), *arguments)
        assert process.wait(DEADLINE) == 0
    (play,) = server.bodies("play")
    assert (play["creative"], play["frames"], play["bundle_version"]) == ("a", 3, 7)


@contextmanager
def broker(folder: Path, port: int) -> Iterator[None]:
    """Mosquitto with TLS and a login."""
    program = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")
    if program is None:
        pytest.skip("needs an MQTT broker: sudo apt-get install mosquitto")
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("needs openssl")
    if not (folder / "tls.key").exists():
        subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
        out = ["-keyout", str(folder / "tls.key"), "-out", str(folder / "tls.crt")]
        command = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *subject, *out]
        subprocess.run(command, check=True, capture_output=True)
        passwd = shutil.which("mosquitto_passwd")
        assert passwd is not None
        subprocess.run([passwd, "-b", "-c", str(folder / "logins"), "edge", "pass"], check=True, capture_output=True)
        (folder / "broker.conf").write_text(
            f"listener {port} 127.0.0.1\ncertfile {folder}/tls.crt\nkeyfile {folder}/tls.key\n"
            f"allow_anonymous false\npassword_file {folder}/logins\nuser root\n"
            f"persistence true\npersistence_location {folder}/\n"
        )
    process = subprocess.Popen([program, "-c", str(folder / "broker.conf")], stderr=subprocess.DEVNULL)

    def is_up() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    try:
        until(is_up)
        yield
    finally:
        process.terminate()
        process.wait(DEADLINE)


def test_an_mqtt_broker_over_tls_gets_each_alert_also_one_that_was_away(start: Any, tmp_path: Path) -> None:
    import paho.mqtt.client as mqtt
    from paho.mqtt.enums import CallbackAPIVersion

    port, got, subscribed = free_port(), [], threading.Event()
    # The broker keeps what comes while this reader is away.
    reader = mqtt.Client(CallbackAPIVersion.VERSION2, "reader", clean_session=False)
    reader.username_pw_set("edge", "pass")
    reader.on_connect = lambda client, *_: client.subscribe("shop/screens/#", 1)
    reader.on_subscribe = lambda *_: subscribed.set()
    reader.on_message = lambda _, __, message: got.append((message.topic, json.loads(message.payload)))
    with broker(tmp_path, port):
        reader.tls_set(str(tmp_path / "tls.crt"))
        reader.connect("localhost", port)
        reader.loop_start()
        assert subscribed.wait(DEADLINE)
        reader.disconnect()
        reader.loop_stop()
    (tmp_path / "password").write_text("pass")
    show(tmp_path / "screen", 99, 99)
    process = start(
        *("watch", "--source", str(tmp_path / "screen"), "--state", str(tmp_path / "state"), "--frames", "2"),
        *("--mqtt", f"mqtts://localhost:{port}/shop/screens", "--mqtt-user", "edge", "--device", "screen-1"),
        *("--mqtt-password-file", str(tmp_path / "password"), "--ca-file", str(tmp_path / "tls.crt")),
    )
    until(lambda: (tmp_path / "state/outbox.db").exists())
    time.sleep(1)
    with broker(tmp_path, port):
        reader.connect("localhost", port)
        reader.loop_start()
        until(lambda: got)
        show(tmp_path / "screen", 0, 0)
        until(lambda: len({body["key"] for _, body in got}) == 2)
        reader.disconnect()
        reader.loop_stop()
        events(process)
    assert {topic for topic, _ in got} == {"shop/screens/screen-1/alerts"}


def test_a_camera_in_the_network_is_watched_and_found_again_when_it_was_away(start: Any, tmp_path: Path) -> None:
    pytest.importorskip("av")
    from tests.serving.edge.rtsp import filming

    with receiving() as server, filming([0] * 25 + [99] * 25, [0] * 50) as camera:
        process = start(
            *("watch", "--source", camera.url, "--state", str(tmp_path / "state"), "--frames", "5"),
            *("--webhook", server.url, "--device", "screen-1"),
        )
        until(lambda: len(server.bodies("alert")) == 2)
        log = events(process)
    opened, closed = server.bodies("alert")
    assert (opened["kind"], opened["state"]) == ("unknown", "open")
    assert (closed["id"], closed["state"]) == (opened["id"], "closed")
    frames = next(entry["frames"] for entry in reversed(log) if entry["event"] == "watching")
    assert frames["approved"] >= 30 and frames["unknown"] >= 20
    assert next(entry["reason"] for entry in log if entry["event"] == "broken_frame") == f"{camera.url}: has ended"
