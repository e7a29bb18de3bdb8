"""Sends HTTP requests at a fixed rate, whatever the answers' pace, and says how long they took.

    python -m benchmarks.load URL --body FILE [--rate R | --clients N] --seconds S

Open loop (`--rate`): request i is due at i / rate seconds; its latency counts from when it was due, so that a server
that falls behind is seen to. Closed loop (`--clients`): each client sends its next request when the last is answered,
which finds the saturation. Prints a JSON object. Connections are kept alive; a request that finds none free opens one.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import numpy as np
import typer
import uvloop

_LENGTH = re.compile(rb"\r\ncontent-length: (\d+)\r\n", re.IGNORECASE)
_CLOSE = re.compile(rb"\r\nconnection: close\r\n", re.IGNORECASE)


@dataclass
class Load:
    """What a load met.

    Attributes:
        requests: How many were sent.
        statuses: How many answers there were of each HTTP status.
        dropped: Requests whose connection failed or ended before their answer.
        seconds: From the first request to the last answer.
        rate: Answers of status 200 for each second.
        p50_ms: Median latency, in milliseconds.
        p99_ms: Latency that one in a hundred exceeds, in milliseconds.
        most_ms: The longest latency, in milliseconds.
    """

    requests: int = 0
    statuses: dict[str, int] = field(default_factory=dict)
    dropped: int = 0
    seconds: float = 0.0
    rate: float = 0.0
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    most_ms: float = 0.0

    @property
    def failed(self) -> int:
        """Requests that had another answer than 200, or none."""
        return self.dropped + sum(count for status, count in self.statuses.items() if status != "200")


class _Connection(asyncio.Protocol):
    def __init__(self) -> None:
        self._transport: Any = None
        self._answer: asyncio.Future[int] | None = None
        self._received = b""
        self.is_open = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self.is_open = True

    def connection_lost(self, error: Exception | None) -> None:
        self.is_open = False
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error or ConnectionResetError("closed before the answer"))

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, separator, body = self._received.partition(b"\r\n\r\n")
        if not separator:
            return
        length = _LENGTH.search(head + b"\r\n")
        if length is None or len(body) < int(length[1]):
            return
        self._received = b""
        if _CLOSE.search(head + b"\r\n"):
            self.is_open = False
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(int(head[9:12]))

    async def send(self, request: bytes) -> int:
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._answer


class _Client:
    def __init__(self, url: str, bodies: list[bytes], headers: dict[str, str]) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "127.0.0.1", parts.port or 80
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        self._requests = [
            f"POST {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: application/json\r\n{lines}"
            f"Content-Length: {len(body)}\r\n\r\n".encode()
            + body
            for body in bodies
        ]
        self._free: list[_Connection] = []
        self._latencies: list[float] = []
        self._statuses: Counter[str] = Counter()
        self._dropped = 0
        self._sent = 0

    async def ask(self, due: float) -> None:
        request = self._requests[self._sent % len(self._requests)]
        self._sent += 1
        try:
            connection = self._free.pop() if self._free else None
            if connection is None or not connection.is_open:
                loop = asyncio.get_running_loop()
                _, connection = await loop.create_connection(_Connection, self._host, self._port)
            status = await connection.send(request)
        except OSError:
            self._dropped += 1
            return
        if connection.is_open:
            self._free.append(connection)
        self._latencies.append(time.perf_counter() - due)
        self._statuses[str(status)] += 1

    async def open_loop(self, rate: float, seconds: float) -> None:
        start = time.perf_counter()
        tasks: set[asyncio.Task[None]] = set()
        for number in range(int(rate * seconds)):
            due = start + number / rate
            ahead = due - time.perf_counter()
            if ahead > 0:
                await asyncio.sleep(ahead)
            task = asyncio.ensure_future(self.ask(due))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        await asyncio.gather(*tasks)

    async def closed_loop(self, clients: int, seconds: float) -> None:
        end = time.perf_counter() + seconds

        async def keep_asking() -> None:
            while (now := time.perf_counter()) < end:
                await self.ask(now)

        await asyncio.gather(*(keep_asking() for _ in range(clients)))

    def result(self, seconds: float) -> Load:
        milliseconds = np.array(self._latencies or [0.0]) * 1000
        return Load(
            requests=self._sent,
            statuses=dict(self._statuses),
            dropped=self._dropped,
            seconds=seconds,
            rate=self._statuses["200"] / seconds,
            p50_ms=float(np.percentile(milliseconds, 50)),
            p99_ms=float(np.percentile(milliseconds, 99)),
            most_ms=float(milliseconds.max()),
        )


def main(
    url: str,
    body: Annotated[Path, typer.Option(help="A file with a request's body on each line, sent in turn.")],
    rate: Annotated[float, typer.Option(help="Requests for each second, whatever the answers' pace.")] = 0.0,
    clients: Annotated[int, typer.Option(help="Clients that each wait for an answer before they ask again.")] = 0,
    seconds: float = 10.0,
    header: Annotated[list[str] | None, typer.Option(help="NAME: VALUE, sent with each request.")] = None,
) -> None:
    """Load a server and print what it did."""
    headers = dict(line.split(": ", 1) for line in header or [])
    client = _Client(url, body.read_bytes().splitlines(), headers)

    async def load() -> Load:
        start = time.perf_counter()
        await (client.open_loop(rate, seconds) if rate else client.closed_loop(clients, seconds))
        return client.result(time.perf_counter() - start)

    print(json.dumps(asdict(uvloop.run(load()))))


if __name__ == "__main__":
    typer.run(main)
