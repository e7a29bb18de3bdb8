"""A web server for a folder of bundles, which knows ranges (RFC 9110, 13.1.5 and 14) and cuts answers off when told."""

from __future__ import annotations

import hashlib
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Bucket(ThreadingHTTPServer):
    """Serves a folder.

    Attributes:
        requests: Path and `Range` of each request.
        cut_after: Each answer ends after so many bytes; None for never.
        bytes_a_second: How fast it sends; None for at once.
        sent: The bytes of bundles that were sent.
    """

    daemon_threads = True

    def __init__(self, folder: Path, port: int = 0) -> None:
        self.folder = folder
        self.requests: list[tuple[str, str]] = []
        self.cut_after: int | None = None
        self.bytes_a_second: float | None = None
        self.sent = 0
        super().__init__(("127.0.0.1", port), _Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Bucket
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.server.requests.append((self.path, self.headers.get("range", "")))
        try:
            content = (self.server.folder / self.path.lstrip("/")).read_bytes()
        except OSError:
            self.send_error(404)
            return
        tag = f'"{hashlib.md5(content).hexdigest()}"'
        begin = 0
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("range", ""))
        if asked and self.headers.get("if-range", tag) == tag:
            begin = int(asked[1])
            if begin >= len(content):
                self.send_error(416)
                return
        self.send_response(206 if begin else 200)
        if begin:
            self.send_header("content-range", f"bytes {begin}-{len(content) - 1}/{len(content)}")
        self.send_header("etag", tag)
        self.send_header("content-length", str(len(content) - begin))
        self.end_headers()
        end = len(content) if self.server.cut_after is None else min(begin + self.server.cut_after, len(content))
        try:
            self._send(content[begin:end])
        except OSError:
            self.close_connection = True
            return
        if end < len(content):
            self.close_connection = True
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)

    def _send(self, content: bytes) -> None:
        step = 1 << 14
        for place in range(0, len(content), step):
            self.wfile.write(content[place : place + step])
            if self.path.endswith(".bundle"):
                self.server.sent += len(content[place : place + step])
            if self.server.bytes_a_second:
                time.sleep(step / self.server.bytes_a_second)

    def log_message(self, *_: object) -> None:
        """Nothing: tests look at what was asked."""


@contextmanager
def serving(folder: Path, port: int = 0) -> Iterator[Bucket]:
    with Bucket(folder, port) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()
