"""TensorFlow Serving's REST API over the data plane, as an ASGI application."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import time
import zlib
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import unquote

from adclick.serving.compatibility import message_with_all_fields
from adclick.serving.errors import (
    Code,
    InvalidArgumentError,
    ServingError,
    UnavailableError,
)
from adclick.serving.model_server.dataplane import ModelMetadata, ModelServer
from adclick.serving.model_server.json_answer import error_json
from adclick.serving.model_server.model_set import ModelSpec
from adclick.serving.model_server.version_status import VersionStatus
from adclick.serving.model_server.waiting import finished

logger = logging.getLogger(__name__)

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

_API = re.compile(r"/v1/.*", re.IGNORECASE | re.DOTALL)
_VERSION = r"(?:/versions/(?P<version>\d+)|/labels/(?P<label>[^/:]+))?"
_PREDICTION = re.compile(
    rf"/v1/models/(?P<name>[^/:]+){_VERSION}:(?P<method>classify|regress|predict)", re.IGNORECASE | re.ASCII
)
_INFORMATION = re.compile(
    rf"/v1/models(?:/(?P<name>[^/:]+))?{_VERSION}(?:/(?P<subresource>metadata))?", re.IGNORECASE | re.ASCII
)
_LARGEST_VERSION = 2**63 - 1
_ORIGIN = re.compile(rb"https?://")
_NOT_FOUND = b"<HTML><HEAD>\n<TITLE>404 Not Found</TITLE>\n</HEAD><BODY>\n<H1>Not Found</H1>\n</BODY></HTML>\n"
_JSON = (b"content-type", b"application/json")
_CORS = [
    (b"access-control-allow-origin", b"*"),
    (b"access-control-allow-methods", b"POST, GET"),
    (b"access-control-allow-headers", b"Content-Type"),
]
#: What bodies may hold together while they are read and answered; beyond it requests are refused.
_MOST_BODY_BYTES = 2**30
#: Bodies up to this size are parsed between other requests' bytes; larger ones in a thread of their own.
_SMALL_BODY_BYTES = 2**17


def create_app(
    model_server: ModelServer,
    *,
    timeout_seconds: float = 30.0,
    prometheus_path: str | None = None,
    allows_cross_origin: bool = False,
) -> Application:
    """Builds the application that answers for a model server.

    `POST /v1/models/NAME[/versions/N|/labels/L]:predict` (and `:classify`, `:regress`),
    `GET /v1/models/NAME[/versions/N|/labels/L]` for the status and the same with `/metadata` for the signatures.

    Args:
        model_server: What answers.
        timeout_seconds: After how long a request is given up.
        prometheus_path: Where the metrics are; None for nowhere.
        allows_cross_origin: Whether pages of other origins may read the answers.
    """
    return _Application(model_server, timeout_seconds, prometheus_path, _CORS if allows_cross_origin else [])


class _Application:
    def __init__(
        self,
        model_server: ModelServer,
        timeout_seconds: float,
        prometheus_path: str | None,
        headers: list[tuple[bytes, bytes]],
    ) -> None:
        self._server = model_server
        self._timeout_seconds = timeout_seconds
        self._prometheus_path = prometheus_path
        self._headers = headers
        self._body_bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        # The path as sent: names are decoded only after the path is split.
        path = scope.get("raw_path", scope["path"].encode()).decode("latin-1")
        if path == self._prometheus_path:
            await _send(send, 200, self.metrics_text(), [(b"content-type", b"text/plain")])
            return
        if scope["query_string"]:
            path += "?" + scope["query_string"].decode("latin-1")
        if not _API.fullmatch(path):
            await _send(send, 404, _NOT_FOUND, [(b"content-type", b"text/html")])
            return
        if scope["method"] == "OPTIONS":
            await self._answer_preflight(scope, send)
            return
        try:
            content = await self._counted(scope, path, receive)
            status = 200
        except ServingError as error:
            content, status = error_json(error.message), error.code.http_status
        except _ClientGone:
            return
        except Exception:
            logger.exception("%s %s failed", scope["method"], path)
            content = error_json("Internal error; the server's log says more")
            status = Code.INTERNAL.http_status
        await _send(send, status, content, [_JSON, *self._headers])

    def metrics_text(self) -> bytes:
        return self._server.metrics.text()

    async def _answer_preflight(self, scope: Scope, send: Send) -> None:
        """Answers what a browser asks before a request to another origin."""
        origin = next((value for name, value in scope["headers"] if name == b"origin"), b"")
        code = Code.OK if _ORIGIN.search(origin) else Code.FAILED_PRECONDITION
        self._server.metrics.request_count.add("", code.name)
        await _send(send, code.http_status, b"", self._headers)

    async def _counted(self, scope: Scope, path: str, receive: Receive) -> bytes:
        method = scope["method"]
        pattern = {"POST": _PREDICTION, "GET": _INFORMATION}.get(method)
        match = pattern.fullmatch(path) if pattern is not None else None
        metrics = self._server.metrics
        started = time.monotonic()
        status, name, api = Code.INTERNAL, "", ""
        try:
            if match is None:
                raise InvalidArgumentError(f"Malformed request: {method} {path}")
            name = unquote(match["name"] or "")
            if method == "GET":
                answer = await self._inform(_model_spec(match), match["subresource"])
            else:
                api = match["method"]
                # The address may be in any case, but for its last word.
                if not api.islower():
                    raise InvalidArgumentError(f"Malformed request: {method} {path}")
                answer = await self._run_model(scope, _model_spec(match), api, started, receive)
            status = Code.OK
            metrics.request_latency.record((time.monotonic() - started) * 1e6, name, api, "REST")
            return answer
        except ServingError as error:
            status = error.code
            raise
        except _ClientGone:
            status = Code.CANCELLED
            raise
        finally:
            metrics.request_count.add(name, status.name)

    async def _inform(self, spec: ModelSpec, subresource: str | None) -> bytes:
        if not spec.name:
            raise InvalidArgumentError("Missing model name in request.")
        if subresource != "metadata":
            return status_json(self._server.model_status(spec))
        return await asyncio.to_thread(lambda: metadata_json(self._server.metadata(spec)))

    async def _run_model(self, scope: Scope, spec: ModelSpec, api: str, started: float, receive: Receive) -> bytes:
        deadline = started + self._timeout_seconds
        body = await self._body(scope, receive)
        try:
            if api == "predict":
                return await self._predict(spec, body, deadline)
            answer = self._server.classify_json if api == "classify" else self._server.regress_json
            return await asyncio.to_thread(answer, spec, body, deadline)
        finally:
            self._body_bytes -= len(body)

    async def _predict(self, spec: ModelSpec, body: bytes, deadline: float) -> bytes:
        is_small = len(body) <= _SMALL_BODY_BYTES
        if is_small:
            run, render = self._server.submit_json(spec, body, deadline)
        else:
            run, render = await asyncio.to_thread(self._server.submit_json, spec, body, deadline)
        fetched = await finished(run, deadline)
        return render(fetched) if is_small else await asyncio.to_thread(render, fetched)

    async def _body(self, scope: Scope, receive: Receive) -> bytes:
        """Reads the body, which counts in `_body_bytes` until it is answered."""
        chunks: list[bytes] = []
        size = 0
        try:
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise _ClientGone
                chunk = message.get("body", b"")
                size += len(chunk)
                self._body_bytes += len(chunk)
                if self._body_bytes > _MOST_BODY_BYTES:
                    raise UnavailableError("The server holds as many bytes of requests as it can; try again later")
                chunks.append(chunk)
                if not message.get("more_body", False):
                    break
            body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
            if _is_gzipped(scope):
                body = await asyncio.to_thread(_gunzip, body)
                self._body_bytes += len(body) - size
            return body
        except BaseException:
            self._body_bytes -= size
            raise


class _ClientGone(Exception):
    """The client closed its connection before its request was whole."""


def _is_gzipped(scope: Scope) -> bool:
    return any(name == b"content-encoding" and b"gzip" in value for name, value in scope["headers"])


def _gunzip(body: bytes) -> bytes:
    decompressor = zlib.decompressobj(wbits=31)
    try:
        # Bounded: a small body may stand for a huge one.
        content = decompressor.decompress(body, _MOST_BODY_BYTES // 8)
    except zlib.error as error:
        raise InvalidArgumentError(f"Failed to uncompress the gzipped body: {error}") from None
    if decompressor.unconsumed_tail or not decompressor.eof:
        raise InvalidArgumentError("Failed to uncompress the gzipped body: it is cut off or too large")
    return content


def _model_spec(match: re.Match[str]) -> ModelSpec:
    version, label = match["version"], match["label"]
    number = None
    if version is not None:
        digits = version.lstrip("0") or "0"
        # By their number first: Python converts no integers of thousands of digits.
        if len(digits) > 19 or int(digits) > _LARGEST_VERSION:
            raise InvalidArgumentError(f"Failed to convert version: {version} to numeric.")
        number = int(digits)
    return ModelSpec(
        name=unquote(match["name"] or ""),
        version=number,
        label=None if label is None else unquote(label),
    )


def status_json(statuses: tuple[VersionStatus, ...]) -> bytes:
    """The body of an answer about the status."""
    return _json({"model_version_status": [status.to_json() for status in statuses]}).encode()


def metadata_json(metadata: ModelMetadata) -> bytes:
    """The body of an answer about the signatures."""
    signatures = {
        name: message_with_all_fields(definition) for name, definition in sorted(metadata.signature_defs.items())
    }
    spec = _json({"name": metadata.name, "signature_name": "", "version": str(metadata.version)})
    # Two documents joined by hand, in TensorFlow Serving and so here.
    definitions = _json({"signature_def": signatures})
    return f'{{\n"model_spec":{spec},\n"metadata": {{"signature_def": {definitions}}}\n}}\n'.encode()


def _json(document: Any) -> str:
    """JSON in the layout of protobuf's own writer."""
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


async def _send(send: Send, status: int, content: bytes, headers: list[tuple[bytes, bytes]]) -> None:
    headers = [*headers, (b"content-length", str(len(content)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})
