"""A small client of TensorFlow Serving's REST API: this project's model server, or TensorFlow Serving itself."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any
from urllib.parse import quote

import httpx

from adclick.schema.model_name import DEFAULT_MODEL_NAME
from adclick.serving.errors import Code, ServingError
from adclick.serving.model_server.version_status import VersionStatus

_FIRST_PAUSE_SECONDS = 0.05


class ModelServerError(ServingError):
    """The server refused a request or could not be reached.

    Attributes:
        http_status: The HTTP status of the refusal; None if no answer came.
    """

    def __init__(self, message: str, code: Code, http_status: int | None = None) -> None:
        super().__init__(message, code)
        self.http_status = http_status


class ModelServerClient:
    """Talks to one model of one server; safe to share between threads. Use it in a `with` block, or close it.

    A request is tried again, after a growing pause, when no connection was made or the server answered 503; never when
    it may have been carried out.

    Args:
        url: The server's address, such as http://127.0.0.1:8501.
        model_name: The model's name.
        timeout_seconds: How long one call may take, all tries together, in seconds.
        retries: How often to try again.
    """

    def __init__(
        self, url: str, model_name: str = DEFAULT_MODEL_NAME, *, timeout_seconds: float = 10.0, retries: int = 3
    ) -> None:
        self._model_url = f"{url.rstrip('/')}/v1/models/{quote(model_name, safe='')}"
        self._timeout_seconds = timeout_seconds
        self._retries = retries
        # The environment's proxies are for the world outside; a model server stands inside.
        self._http = httpx.Client(trust_env=False)

    def __enter__(self) -> ModelServerClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()

    def predict(
        self,
        instances: Sequence[Any],
        signature_name: str | None = None,
        version: int | None = None,
    ) -> list[Any]:
        """Sends rows and returns a prediction for each.

        Args:
            instances: A row each: a mapping from input to value, or the value itself if the signature has one input.
                Bytes are sent as base64; NaN stands for itself.
            signature_name: The signature; the model's default if None.
            version: The version; the newest if None.

        Returns:
            For each row its value, or a mapping from output to value if the signature has several outputs.

        Raises:
            ModelServerError: The server refused the request, with its own words, or cannot be reached.
        """
        request: dict[str, Any] = {"instances": list(instances)}
        if signature_name is not None:
            request["signature_name"] = signature_name
        body = json.dumps(request, default=_encode, separators=(",", ":")).encode("ascii")
        answer = self._call("POST", f"{self._address(version)}:predict", body)
        return list(self._field(answer, "predictions"))

    def status(self) -> list[VersionStatus]:
        """The status of the model's versions, the newest first.

        Raises:
            ModelServerError: The server knows no version of the model, or cannot be reached.
        """
        answer = self._call("GET", self._model_url)
        try:
            return [VersionStatus.from_json(entry) for entry in self._field(answer, "model_version_status")]
        except (KeyError, TypeError, ValueError) as error:
            raise ModelServerError(f"{self._model_url}: an unexpected status: {error!r}", Code.UNKNOWN) from error

    def metadata(self, version: int | None = None) -> Mapping[str, Any]:
        """The version and the signatures, as TensorFlow Serving's REST API writes them.

        Raises:
            ModelServerError: The version is not available, or the server cannot be reached.
        """
        return self._call("GET", f"{self._address(version)}/metadata")

    def _address(self, version: int | None) -> str:
        return self._model_url if version is None else f"{self._model_url}/versions/{version}"

    def _call(self, method: str, url: str, body: bytes | None = None) -> dict[str, Any]:
        deadline = time.monotonic() + self._timeout_seconds
        pause = _FIRST_PAUSE_SECONDS
        for remaining_tries in range(self._retries, -1, -1):
            retry = remaining_tries > 0 and time.monotonic() + pause < deadline
            try:
                answer = self._http.request(
                    method,
                    url,
                    content=body,
                    headers={"Content-Type": "application/json"} if body is not None else None,
                    timeout=max(deadline - time.monotonic(), 0.001),
                )
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                if not retry:
                    raise ModelServerError(f"no model server answers at {url}: {error}", Code.UNAVAILABLE) from error
            except httpx.TimeoutException as error:
                raise ModelServerError(
                    f"{url} did not answer within {self._timeout_seconds:g} s", Code.DEADLINE_EXCEEDED
                ) from error
            except httpx.HTTPError as error:
                raise ModelServerError(f"{url}: the connection broke: {error}", Code.UNAVAILABLE) from error
            else:
                if not (retry and answer.status_code == httpx.codes.SERVICE_UNAVAILABLE):
                    return _document(url, answer)
            time.sleep(pause)
            pause *= 2
        raise AssertionError("the last try returns or raises")

    def _field(self, answer: dict[str, Any], name: str) -> Any:
        if not isinstance(answer.get(name), list):
            raise ModelServerError(f"{self._model_url}: the answer has no list {name!r}", Code.UNKNOWN)
        return answer[name]


def _document(url: str, answer: httpx.Response) -> dict[str, Any]:
    try:
        document = json.loads(answer.content)
    except ValueError:
        document = None
    if answer.is_success and isinstance(document, dict):
        return document
    if isinstance(document, dict) and isinstance(document.get("error"), str):
        message = document["error"]
    else:
        message = f"{url} answered {answer.status_code} with something other than a JSON object: {answer.text[:200]!r}"
    raise ModelServerError(message, _code(answer.status_code), answer.status_code)


def _code(http_status: int) -> Code:
    return next((code for code in Code if code.http_status == http_status and code is not Code.OK), Code.UNKNOWN)


def _encode(value: Any) -> Any:
    if isinstance(value, bytes):
        return {"b64": base64.b64encode(value).decode("ascii")}
    # NumPy's arrays and numbers, without importing NumPy.
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"cannot send a {type(value).__name__} as JSON")
