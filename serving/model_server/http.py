"""TensorFlow Serving's REST API over the data plane, as a Starlette application."""

from __future__ import annotations

import json
import logging
import re
from typing import Any
from urllib.parse import unquote

import google.protobuf
from google.protobuf import json_format
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from serving.errors import Code, InvalidArgumentError, NotFoundError, ServingError, UnimplementedError
from serving.model_server.dataplane import ModelMetadata, ModelServer, ModelSpec
from serving.model_server.version_status import VersionStatus

logger = logging.getLogger(__name__)

_API = re.compile(r"/v1/.*", re.IGNORECASE | re.DOTALL)
_VERSION = r"(?:/versions/(?P<version>\d+)|/labels/(?P<label>[^/:]+))?"
_PREDICTION = re.compile(
    rf"/v1/models/(?P<name>[^/:]+){_VERSION}:(?P<method>classify|regress|predict)", re.IGNORECASE | re.ASCII
)
_INFORMATION = re.compile(
    rf"/v1/models(?:/(?P<name>[^/:]+))?{_VERSION}(?:/(?P<subresource>metadata))?", re.IGNORECASE | re.ASCII
)
_HTTP_METHODS = ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD"]
_LARGEST_VERSION = 2**63 - 1

# The option's name changed with protobuf 5.
_WITH_DEFAULTS = (
    "always_print_fields_with_no_presence"
    if int(google.protobuf.__version__.split(".")[0]) >= 5
    else "including_default_value_fields"
)


def create_app(model_server: ModelServer) -> Starlette:
    """Builds the application that answers for a model server.

    `POST /v1/models/NAME[/versions/N|/labels/L]:predict`, `GET /v1/models/NAME[/versions/N|/labels/L]` for the status
    and the same with `/metadata` for the signatures. Models run in worker threads; the event loop only moves bytes.
    """

    async def answer(request: Request) -> Response:
        try:
            content = await _answer(request, model_server)
        except ServingError as error:
            return _error(error)
        except Exception:
            logger.exception("%s %s failed", request.method, request.url.path)
            return _error(ServingError("Internal error; the server's log says more", Code.INTERNAL))
        return Response(content, media_type="application/json")

    return Starlette(routes=[Route("/{path:path}", answer, methods=_HTTP_METHODS)])


async def _answer(request: Request, model_server: ModelServer) -> bytes:
    # The path as sent: names are decoded only after the path is split.
    path = request.scope.get("raw_path", request.url.path.encode()).decode("latin-1")
    malformed = f"Malformed request: {request.method} {path}"
    if not _API.fullmatch(path):
        raise NotFoundError(malformed)
    if request.method == "POST" and (match := _PREDICTION.fullmatch(path)):
        spec = _model_spec(match)
        method = match["method"].lower()
        if method != "predict":
            raise UnimplementedError(f"{method} is not supported; call predict instead")
        return await run_in_threadpool(model_server.predict, spec, await request.body())
    if request.method == "GET" and (match := _INFORMATION.fullmatch(path)):
        if match["name"] is None:
            raise InvalidArgumentError("Missing model name in request.")
        spec = _model_spec(match)
        if match["subresource"] is None:
            return status_json(model_server.model_status(spec))
        return await run_in_threadpool(lambda: metadata_json(model_server.metadata(spec)))
    raise InvalidArgumentError(malformed)


def _model_spec(match: re.Match[str]) -> ModelSpec:
    version, label = match["version"], match["label"]
    if version is not None and int(version) > _LARGEST_VERSION:
        raise InvalidArgumentError(f"Failed to convert version: {version} to numeric.")
    return ModelSpec(
        name=unquote(match["name"]),
        version=None if version is None else int(version),
        label=None if label is None else unquote(label),
    )


def status_json(statuses: tuple[VersionStatus, ...]) -> bytes:
    """The body of an answer about the status."""
    return _json({"model_version_status": [status.to_json() for status in statuses]})


def metadata_json(metadata: ModelMetadata) -> bytes:
    """The body of an answer about the signatures."""
    options: dict[str, Any] = {"preserving_proto_field_name": True, _WITH_DEFAULTS: True}
    signatures = {
        name: json_format.MessageToDict(definition, **options)
        for name, definition in sorted(metadata.signature_defs.items())
    }
    spec = {"name": metadata.name, "signature_name": "", "version": str(metadata.version)}
    return _json({"model_spec": spec, "metadata": {"signature_def": {"signature_def": signatures}}})


def _error(error: ServingError) -> Response:
    return Response(_json({"error": error.message}), status_code=error.code.http_status, media_type="application/json")


def _json(document: Any) -> bytes:
    return json.dumps(document, indent=1).encode("ascii")
