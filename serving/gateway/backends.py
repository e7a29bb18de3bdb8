"""Where models run: in this process, or on a server that speaks TensorFlow Serving's gRPC or REST API."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Protocol

import httpx
import numpy as np
import orjson

from adclick.serving.errors import Code, DeadlineExceededError, InvalidArgumentError, ServingError
from adclick.serving.gateway.retries import Retries, ServerGone, is_gone
from adclick.serving.gateway.routing import Target
from adclick.serving.gateway.settings import BackendSettings
from adclick.serving.model_server.configuration import ModelConfig, VersionPolicy
from adclick.serving.model_server.dataplane import ModelServer
from adclick.serving.model_server.model_set import ModelSpec
from adclick.serving.model_server.version_status import VersionStatus
from adclick.serving.model_server.waiting import finished

Array = np.ndarray[Any, Any]
#: By signature, the type and the rank of each input.
Signatures = Mapping[str, Mapping[str, tuple[str, int]]]

_TYPES = {"DT_STRING": "string", "DT_FLOAT": "float32", "DT_INT64": "int64", 7: "string", 1: "float32", 9: "int64"}
_CONNECTIONS = 64
#: gRPC ends a call at its deadline itself, and says so better.
_GRACE_SECONDS = 1.0
#: A connection that has not answered yet is replaced only after so long: servers that are all away are not stormed.
_YOUNG_SECONDS = 0.25


@dataclass(frozen=True)
class Metadata:
    """What a backend tells of a version.

    Attributes:
        version: Its number.
        signatures: Its signatures.
    """

    version: int
    signatures: Signatures


class Backend(Protocol):
    """Asks one model.

    Attributes:
        retries: How often it asked again after a server went away.
    """

    retries: Retries

    async def metadata(self, target: Target) -> Metadata:
        """The version that a target stands for, and its signatures.

        Raises:
            ServingError: There is none, or the server cannot be reached.
        """

    async def run(
        self, version: int, signature: str, inputs: Mapping[str, Array], output: str, deadline: float
    ) -> Array:
        """Runs a signature of a version and returns one of its outputs.

        Args:
            version: The version's number.
            signature: The signature.
            inputs: An array for each input; strings as object arrays of bytes.
            output: The output.
            deadline: When the answer comes too late, by `time.monotonic()`.

        Raises:
            ServingError: The version is gone (NOT_FOUND), too slow, or the server cannot be reached.
        """

    async def run_all(
        self, version: int, signature: str, inputs: Mapping[str, Array], outputs: Sequence[str], deadline: float
    ) -> list[Array]:
        """As `run`, for several outputs; strings come as object arrays of bytes."""

    async def not_served(self) -> Mapping[int, str]:
        """Why versions that are there, or were, are not served, by their numbers.

        Raises:
            ServingError: The server cannot be reached.
        """

    def route(self, labels: Mapping[str, int], versions: frozenset[int]) -> None:
        """Makes versions ready to be asked besides the newest, and labels stand for them; may take long.

        Does nothing where the models are a server's, whose own configuration says both.
        """

    async def close(self) -> None:
        """Frees connections."""


class InProcessBackend:
    """Models in this process."""

    def __init__(self, model_server: ModelServer, settings: BackendSettings) -> None:
        self._server = model_server
        self._name = settings.model_name
        self._base_path = settings.model_base_path
        self._routed = False
        self.retries = Retries()

    def route(self, labels: Mapping[str, int], versions: frozenset[int]) -> None:
        """As `Backend.route`."""
        if self._base_path and (versions or self._routed):
            self._routed = True
            policy = VersionPolicy(versions=versions)
            self._server.reload((ModelConfig(self._name, self._base_path, policy, labels),))

    async def metadata(self, target: Target) -> Metadata:
        """As `Backend.metadata`."""
        found = self._server.metadata(ModelSpec(self._name, target.version, target.label))
        return Metadata(found.version, _signatures_of_protos(found.signature_defs))

    async def run(
        self, version: int, signature: str, inputs: Mapping[str, Array], output: str, deadline: float
    ) -> Array:
        """As `Backend.run`."""
        (fetched,) = await self.run_all(version, signature, inputs, [output], deadline)
        return fetched

    async def run_all(
        self, version: int, signature: str, inputs: Mapping[str, Array], outputs: Sequence[str], deadline: float
    ) -> list[Array]:
        """As `Backend.run_all`."""
        begun = self._server.begin(ModelSpec(self._name, version), inputs, signature, list(outputs), deadline)
        return await finished(begun.run, deadline)

    async def not_served(self) -> Mapping[int, str]:
        """As `Backend.not_served`."""
        return _faults(self._server.model_status(ModelSpec(self._name)))

    async def close(self) -> None:
        """As `Backend.close`."""


class GrpcBackend:
    """A server's gRPC API.

    A call whose server goes away is made once more, by a new channel, which takes the place of the old one: so all
    calls leave a connection that leads to a server that ends. The old one is closed after the last of its calls.
    """

    def __init__(self, address: str, model_name: str) -> None:
        import grpc

        self._grpc = grpc
        self._address = address
        self._name = model_name
        self.retries = Retries()
        self._lock = threading.Lock()
        self._connection = _Connection(address)

    async def metadata(self, target: Target) -> Metadata:
        """As `Backend.metadata`."""
        from tensorflow_serving.apis import get_model_metadata_pb2

        request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
        self._fill(request.model_spec, target.version, target.label)
        response = await self._call("GetModelMetadata", request, time.monotonic() + 5.0)
        signatures = get_model_metadata_pb2.SignatureDefMap()
        response.metadata["signature_def"].Unpack(signatures)
        return Metadata(response.model_spec.version.value, _signatures_of_protos(signatures.signature_def))

    async def run(
        self, version: int, signature: str, inputs: Mapping[str, Array], output: str, deadline: float
    ) -> Array:
        """As `Backend.run`."""
        (found,) = await self.run_all(version, signature, inputs, [output], deadline)
        return found

    async def run_all(
        self, version: int, signature: str, inputs: Mapping[str, Array], outputs: Sequence[str], deadline: float
    ) -> list[Array]:
        """As `Backend.run_all`."""
        from tensorflow_serving.apis import predict_pb2

        from adclick.serving.model_server.tensor_proto import array_from_proto, proto_from_array

        request = predict_pb2.PredictRequest(output_filter=outputs)
        self._fill(request.model_spec, version, None)
        request.model_spec.signature_name = signature
        for name, array in inputs.items():
            request.inputs[name].CopyFrom(proto_from_array(array))
        response = await self._call("Predict", request, deadline)
        missing = [output for output in outputs if output not in response.outputs]
        if missing:
            raise ServingError(f"the model server's answer holds no {', '.join(missing)}")
        return [array_from_proto(response.outputs[output], output) for output in outputs]

    async def not_served(self) -> Mapping[int, str]:
        """As `Backend.not_served`."""
        from tensorflow_serving.apis import get_model_status_pb2

        request = get_model_status_pb2.GetModelStatusRequest()
        request.model_spec.name = self._name
        response = await self._call("GetModelStatus", request, time.monotonic() + 5.0)
        return {
            status.version: status.status.error_message
            for status in response.model_version_status
            if status.status.error_message
        }

    def route(self, labels: Mapping[str, int], versions: frozenset[int]) -> None:
        """As `Backend.route`."""

    async def close(self) -> None:
        """As `Backend.close`."""
        self._connection.channel.close()

    def _fill(self, spec: Any, version: int | None, label: str | None) -> None:
        spec.name = self._name
        if version is not None:
            spec.version.value = version
        elif label is not None:
            spec.version_label = label

    async def _call(self, method: str, request: Any, deadline: float) -> Any:
        gone: _Connection | None = None

        async def ask(again: bool) -> Any:
            nonlocal gone
            connection = gone = self._take(gone)
            try:
                return await self._attempt(connection, method, request, deadline, waits=again)
            finally:
                self._leave(connection)

        return await self.retries.once_more(ask, lambda: time.monotonic() < deadline)

    async def _attempt(self, connection: _Connection, method: str, request: Any, deadline: float, waits: bool) -> Any:
        # Not grpc.aio, which binds itself to the first event loop of the process.
        timeout = max(0.001, deadline - time.monotonic())
        call = connection.methods[method].future(request, timeout=timeout, wait_for_ready=waits)
        answer: Future[Any] = Future()
        call.add_done_callback(lambda _: answer.set_result(None))
        try:
            await finished(answer, deadline + _GRACE_SECONDS)
            result = call.result()
        except (self._grpc.RpcError, self._grpc.FutureCancelledError) as error:
            code, details = Code.from_grpc_code(call.code().value[0]), call.details() or ""
            kind = ServerGone if is_gone(code, details) else ServingError
            raise kind(details or code.name, code) from error
        finally:
            call.cancel()
        connection.has_answered = True
        return result

    def _take(self, gone: _Connection | None) -> _Connection:
        """The connection for a call, to be left after it; another than one whose server went."""
        with self._lock:
            if gone is self._connection and (gone.has_answered or time.monotonic() - gone.made > _YOUNG_SECONDS):
                self._connection = _Connection(self._address)
                if not gone.calls:
                    gone.channel.close()
            self._connection.calls += 1
            return self._connection

    def _leave(self, connection: _Connection) -> None:
        with self._lock:
            connection.calls -= 1
            # Closing a channel cancels its calls.
            if connection is not self._connection and not connection.calls:
                connection.channel.close()


class _Connection:
    """A channel with a connection of its own.

    Attributes:
        channel: The channel.
        methods: What may be called by it, by name.
        made: When it was made, by `time.monotonic()`.
        calls: How many calls are under way.
        has_answered: Whether a call by it had an answer.
    """

    def __init__(self, address: str) -> None:
        import grpc
        from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc

        self.made = time.monotonic()
        self.calls = 0
        self.has_answered = False

        self.channel = grpc.insecure_channel(
            address,
            options=[
                ("grpc.max_receive_message_length", -1),
                # Channels to one address would share a connection.
                ("grpc.use_local_subchannel_pool", 1),
                # Within a request's deadline there is time for several: each may lead to a server that is not there.
                ("grpc.initial_reconnect_backoff_ms", 50),
                ("grpc.min_reconnect_backoff_ms", 200),
                ("grpc.max_reconnect_backoff_ms", 250),
            ],
        )
        predictions = prediction_service_pb2_grpc.PredictionServiceStub(self.channel)
        models = model_service_pb2_grpc.ModelServiceStub(self.channel)
        self.methods = {
            "Predict": predictions.Predict,
            "GetModelMetadata": predictions.GetModelMetadata,
            "GetModelStatus": models.GetModelStatus,
        }


class RestBackend:
    """A server's REST API."""

    def __init__(self, url: str, model_name: str) -> None:
        self._url = f"{url.rstrip('/')}/v1/models/{model_name}"
        limits = httpx.Limits(max_connections=_CONNECTIONS, max_keepalive_connections=_CONNECTIONS)
        # The environment's proxies are for the world outside; a model server stands inside.
        self._http = httpx.AsyncClient(trust_env=False, limits=limits)
        # Who asks again does so by a connection of its own: those that are kept may lead to the server that went.
        self._fresh = httpx.AsyncClient(
            transport=httpx.AsyncHTTPTransport(
                trust_env=False, retries=2, limits=httpx.Limits(max_keepalive_connections=0)
            ),
            trust_env=False,
        )
        self.retries = Retries()

    async def metadata(self, target: Target) -> Metadata:
        """As `Backend.metadata`."""
        place = ""
        if target.version is not None:
            place = f"/versions/{target.version}"
        elif target.label is not None:
            place = f"/labels/{target.label}"
        document = await self._call("GET", f"{place}/metadata", None, time.monotonic() + 5.0)
        definitions = document["metadata"]["signature_def"]["signature_def"]
        signatures = {
            name: {key: _type_and_rank(info["dtype"], len(info["tensor_shape"]["dim"])) for key, info in inputs.items()}
            for name, definition in definitions.items()
            if (inputs := definition["inputs"])
        }
        return Metadata(int(document["model_spec"]["version"]), signatures)

    async def run(
        self, version: int, signature: str, inputs: Mapping[str, Array], output: str, deadline: float
    ) -> Array:
        """As `Backend.run`."""
        (found,) = await self.run_all(version, signature, inputs, [output], deadline)
        return found

    async def run_all(
        self, version: int, signature: str, inputs: Mapping[str, Array], outputs: Sequence[str], deadline: float
    ) -> list[Array]:
        """As `Backend.run_all`."""
        columns = {name: _json_values(array) for name, array in inputs.items()}
        body = _json({"signature_name": signature, "inputs": columns})
        document = await self._call("POST", f"/versions/{version}:predict", body, deadline)
        try:
            found = document["outputs"]
            return [_array_of(found[output] if isinstance(found, dict) else found) for output in outputs]
        except (KeyError, TypeError, ValueError) as error:
            raise ServingError(f"the model server's answer holds no {', '.join(outputs)}: {error}") from error

    async def not_served(self) -> Mapping[int, str]:
        """As `Backend.not_served`."""
        document = await self._call("GET", "", None, time.monotonic() + 5.0)
        try:
            return _faults([VersionStatus.from_json(status) for status in document["model_version_status"]])
        except (KeyError, TypeError, ValueError) as error:
            raise ServingError(f"the model server's answer holds no status: {error}") from error

    def route(self, labels: Mapping[str, int], versions: frozenset[int]) -> None:
        """As `Backend.route`."""

    async def close(self) -> None:
        """As `Backend.close`."""
        await self._http.aclose()
        await self._fresh.aclose()

    async def _call(self, method: str, place: str, body: bytes | None, deadline: float) -> Any:
        async def ask(again: bool) -> Any:
            return await self._attempt(self._fresh if again else self._http, method, place, body, deadline)

        return await self.retries.once_more(ask, lambda: time.monotonic() < deadline)

    async def _attempt(
        self, client: httpx.AsyncClient, method: str, place: str, body: bytes | None, deadline: float
    ) -> Any:
        try:
            answer = await client.request(
                method, self._url + place, content=body, timeout=max(0.001, deadline - time.monotonic())
            )
        except httpx.TimeoutException as error:
            raise DeadlineExceededError("the model server did not answer in time") from error
        except httpx.HTTPError as error:
            raise ServerGone(
                f"the model server cannot be reached: {error or type(error).__name__}", Code.UNAVAILABLE
            ) from error
        if answer.status_code == Code.UNAVAILABLE.http_status:
            raise ServerGone(_error_of(answer), Code.UNAVAILABLE)
        if answer.status_code != 200:
            code = next((code for code in Code if code.http_status == answer.status_code), Code.UNKNOWN)
            # Both INVALID_ARGUMENT and FAILED_PRECONDITION are 400.
            raise ServingError(_error_of(answer), code)
        try:
            return orjson.loads(answer.content)
        except orjson.JSONDecodeError:
            pass
        try:
            # TensorFlow Serving writes NaN and infinities as tokens.
            return json.loads(answer.content)
        except ValueError as error:
            raise ServingError(f"the model server's answer is not JSON: {error}") from error


def create_backend(settings: BackendSettings, model_server: ModelServer | None = None) -> Backend:
    """Builds the backend that the settings name.

    Args:
        settings: The settings.
        model_server: The models in this process; needed for `in_process`.

    Raises:
        InvalidArgumentError: The settings lack an address.
    """
    if settings.kind == "in_process":
        if model_server is None:
            raise InvalidArgumentError(
                "backend.kind is in_process, but no model is loaded: set backend.model_base_path"
            )
        return InProcessBackend(model_server, settings)
    if not settings.address:
        raise InvalidArgumentError(f"backend.kind is {settings.kind}: set backend.address")
    kind = GrpcBackend if settings.kind == "grpc" else RestBackend
    return kind(settings.address, settings.model_name)


def _faults(statuses: Sequence[VersionStatus]) -> Mapping[int, str]:
    return {status.version: status.error_message for status in statuses if status.error_message}


def _signatures_of_protos(definitions: Mapping[str, Any]) -> Signatures:
    return {
        name: {
            key: _type_and_rank(info.dtype, len(info.tensor_shape.dim))
            for key, info in sorted(definition.inputs.items())
        }
        for name, definition in definitions.items()
        if definition.inputs
    }


def _type_and_rank(dtype: Any, rank: int) -> tuple[str, int]:
    return _TYPES.get(dtype, str(dtype)), rank


def _array_of(values: Any) -> Array:
    """The array of a JSON list: float32, or an object array of bytes."""
    array = np.array(values)
    if array.dtype.kind == "U":
        return np.char.encode(array, "utf-8").astype(object)
    return array.astype(np.float32)


def _json_values(array: Array) -> Any:
    if array.dtype.kind != "O":
        return array
    return [_text(value) for value in array] if array.ndim == 1 else [[_text(one) for one in row] for row in array]


def _text(value: bytes) -> Any:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"b64": base64.b64encode(value).decode()}


def _json(document: Mapping[str, Any]) -> bytes:
    arrays = [value for value in document["inputs"].values() if isinstance(value, np.ndarray)]
    if all(array.dtype.kind != "f" or np.isfinite(array).all() for array in arrays):
        return orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)
    # orjson writes NaN as null, which TensorFlow Serving refuses.
    return json.dumps(document, default=lambda array: array.tolist()).encode()


def _error_of(answer: httpx.Response) -> str:
    try:
        return str(answer.json()["error"])
    except (ValueError, KeyError, TypeError):
        return f"HTTP status {answer.status_code}"
