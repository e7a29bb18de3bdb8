"""TensorFlow Serving's gRPC services over the data plane."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from concurrent import futures
from dataclasses import dataclass
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)

from adclick.serving.errors import Code, InvalidArgumentError, ServingError, UnavailableError
from adclick.serving.model_server.configuration import SslOptions, model_configs
from adclick.serving.model_server.dataplane import ModelServer, model_spec
from adclick.serving.model_server.profiling import add_profiler_service
from adclick.serving.model_server.servable import DEFAULT_SIGNATURE
from adclick.serving.model_server.tensor_proto import array_from_proto, proto_from_array

logger = logging.getLogger(__name__)

_SIGNATURE_DEF = "signature_def"
_LARGEST_MESSAGE = 2**31 - 1
#: Bytes of a refusal's words.
_LONGEST_MESSAGE = 1024
_LONGEST_SECONDS = 1e6
_THREADS = 16
_MOST_REQUESTS = 2048
_STATUS_CODES = {code.value[0]: code for code in grpc.StatusCode}


@dataclass(frozen=True)
class GrpcOptions:
    """How the gRPC API speaks.

    Attributes:
        threads: Requests that are answered at the same time.
        has_health_service: Whether gRPC's health service answers, too.
        has_profiler: Whether TensorFlow's profiler service answers, too.
        packs_tensors: Whether Predict answers with packed tensors.
        uses_alts: Whether connections are secured by Google's ALTS.
    """

    threads: int = _THREADS
    has_health_service: bool = True
    has_profiler: bool = False
    packs_tensors: bool = False
    uses_alts: bool = False


class PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):  # type: ignore[misc]
    """Runs models."""

    def __init__(self, model_server: ModelServer, packs_tensors: bool = False) -> None:
        self._server = model_server
        self._packs_tensors = packs_tensors

    def Predict(self, request: Any, context: grpc.ServicerContext) -> Any:
        """Runs a signature on tensors."""

        def predict(deadline: float | None) -> Any:
            _check_has_model_spec(request)
            spec = model_spec(request.model_spec)
            signature_name = request.model_spec.signature_name or DEFAULT_SIGNATURE
            inputs = {name: array_from_proto(proto, name) for name, proto in request.inputs.items()}
            outputs = list(request.output_filter) or None
            version, arrays = self._server.predict_tensors(spec, inputs, signature_name, outputs, deadline)
            response = predict_pb2.PredictResponse()
            _fill(response.model_spec, spec.name, version, signature_name)
            for name, array in arrays.items():
                response.outputs[name].CopyFrom(proto_from_array(array, self._packs_tensors))
            return response

        return self._answer("Predict", request.model_spec.name, context, predict)

    def Classify(self, request: Any, context: grpc.ServicerContext) -> Any:
        """Classifies examples."""

        def classify(deadline: float | None) -> Any:
            _check_has_model_spec(request)
            spec = model_spec(request.model_spec)
            name = request.model_spec.signature_name
            version, result = self._server.classify(spec, name, request.input, deadline)
            response = classification_pb2.ClassificationResponse(result=result)
            _fill(response.model_spec, spec.name, version, name or DEFAULT_SIGNATURE)
            return response

        return self._answer("Classify", request.model_spec.name, context, classify)

    def Regress(self, request: Any, context: grpc.ServicerContext) -> Any:
        """Regresses on examples."""

        def regress(deadline: float | None) -> Any:
            _check_has_model_spec(request)
            spec = model_spec(request.model_spec)
            name = request.model_spec.signature_name
            version, result = self._server.regress(spec, name, request.input, deadline)
            response = regression_pb2.RegressionResponse(result=result)
            _fill(response.model_spec, spec.name, version, name or DEFAULT_SIGNATURE)
            return response

        return self._answer("Regress", request.model_spec.name, context, regress)

    def MultiInference(self, request: Any, context: grpc.ServicerContext) -> Any:
        """Classifies and regresses by several signatures in one run."""
        return _answered(context, lambda deadline: self._server.multi_inference(request, deadline))

    def GetModelMetadata(self, request: Any, context: grpc.ServicerContext) -> Any:
        """Tells a model's signatures."""

        def metadata(_: float | None) -> Any:
            _check_has_model_spec(request)
            if not request.metadata_field:
                raise InvalidArgumentError("GetModelMetadataRequest must specify at least one metadata_field")
            for field in request.metadata_field:
                if field != _SIGNATURE_DEF:
                    raise InvalidArgumentError(f"Metadata field {field} is not supported")
            found = self._server.metadata(model_spec(request.model_spec))
            response = get_model_metadata_pb2.GetModelMetadataResponse()
            _fill(response.model_spec, found.name, found.version, "")
            signatures = get_model_metadata_pb2.SignatureDefMap()
            for name, definition in found.signature_defs.items():
                signatures.signature_def[name].CopyFrom(definition)
            response.metadata[_SIGNATURE_DEF].Pack(signatures)
            return response

        return _answered(context, metadata)

    def _answer(
        self, api: str, model_name: str, context: grpc.ServicerContext, answer: Callable[[float | None], Any]
    ) -> Any:
        metrics = self._server.metrics
        started = time.monotonic()

        def recorded(deadline: float | None) -> Any:
            status = Code.INTERNAL
            try:
                response = answer(deadline)
                status = Code.OK
                metrics.request_latency.record((time.monotonic() - started) * 1e6, model_name, api, "GRPC")
                return response
            except ServingError as error:
                status = error.code
                raise
            finally:
                metrics.request_count.add(model_name, status.name)

        return _answered(context, recorded)


class ModelService(model_service_pb2_grpc.ModelServiceServicer):  # type: ignore[misc]
    """Tells the status of models and takes another configuration."""

    def __init__(self, model_server: ModelServer) -> None:
        self._server = model_server

    def GetModelStatus(self, request: Any, context: grpc.ServicerContext) -> Any:
        """The status of a model's versions."""

        def status(_: float | None) -> Any:
            _check_has_model_spec(request)
            response = get_model_status_pb2.GetModelStatusResponse()
            states = get_model_status_pb2.ModelVersionStatus.State
            for entry in self._server.model_status(model_spec(request.model_spec)):
                message = response.model_version_status.add(version=entry.version)
                message.state = states.Value(entry.state.value)
                message.status.error_code = entry.error_code.grpc_code
                message.status.error_message = entry.error_message
            return response

        return _answered(context, status)

    def HandleReloadConfigRequest(self, request: Any, context: grpc.ServicerContext) -> Any:
        """Serves the models of the request's configuration instead."""

        def reload(deadline: float | None) -> Any:
            before = self._server.metrics.values(request.metric_names)
            if request.config.WhichOneof("config") != "model_config_list":
                raise InvalidArgumentError(
                    "ServerModelConfig type not supported by HandleReloadConfigRequest. Only ModelConfigList is "
                    "currently supported"
                )
            models = model_configs(request.config, self._server.model_names)
            self._server.reload(models, context.is_active, deadline)
            response = model_management_pb2.ReloadConfigResponse()
            for name, value in self._server.metrics.values(before).items():
                response.metric.add(name=name, int64_value_increase=value - before[name])
            response.status.error_code = Code.OK.grpc_code
            return response

        return _answered(context, reload)


def create_server(
    model_server: ModelServer,
    *,
    address: str | None,
    socket_path: str = "",
    ssl: SslOptions | None = None,
    channel_arguments: Sequence[tuple[str, str | int]] = (),
    options: GrpcOptions | None = None,
) -> tuple[grpc.Server, int]:
    """Builds the gRPC server, bound but not started.

    Args:
        model_server: What answers.
        address: The host and port to listen at; None for none.
        socket_path: A Unix socket to listen at; none if empty.
        ssl: Certificates; clear text if None.
        channel_arguments: gRPC's own settings.
        options: How it speaks.

    Returns:
        The server, and its port.

    Raises:
        UnavailableError: The address or the socket cannot be listened at.
    """
    options = options or GrpcOptions()
    server = grpc.server(
        futures.ThreadPoolExecutor(options.threads, thread_name_prefix="grpc"),
        options=[
            ("grpc.so_reuseport", 0),
            ("grpc.max_receive_message_length", _LARGEST_MESSAGE),
            ("grpc.max_send_message_length", _LARGEST_MESSAGE),
            *channel_arguments,
        ],
        maximum_concurrent_rpcs=_MOST_REQUESTS,
    )
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
        PredictionService(model_server, options.packs_tensors), server
    )
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(ModelService(model_server), server)
    if options.has_profiler:
        add_profiler_service(server)
    if options.has_health_service:
        health_servicer = health.HealthServicer()
        for service in ("", "ModelService", "PredictionService"):
            health_servicer.set(service, health_pb2.HealthCheckResponse.SERVING)
        health_pb2_grpc.add_HealthServicer_to_server(health_servicer, server)
    credentials = grpc.alts_server_credentials() if options.uses_alts else None
    if ssl is not None:
        credentials = grpc.ssl_server_credentials(
            [(ssl.server_key, ssl.server_certificate)], ssl.client_authority, ssl.verify_clients
        )
    port = 0
    for place in filter(None, (address, f"unix:{socket_path}" if socket_path else "")):
        try:
            bound = server.add_secure_port(place, credentials) if credentials else server.add_insecure_port(place)
        except RuntimeError:
            bound = 0
        if not bound:
            raise UnavailableError(f"cannot listen at {place}: is another server there, or is the address not ours?")
        port = port or bound
    return server, port


def _answered(context: grpc.ServicerContext, answer: Callable[[float | None], Any]) -> Any:
    remaining = context.time_remaining()
    # Without a deadline gRPC tells of one in centuries.
    deadline = None if remaining is None or remaining > _LONGEST_SECONDS else time.monotonic() + remaining
    try:
        return answer(deadline)
    except ServingError as error:
        failure = error
    except Exception:
        logger.exception("a request failed")
        failure = ServingError("Internal error; the server's log says more", Code.INTERNAL)
    context.abort(_STATUS_CODES[failure.code.grpc_code], _shortened(failure.message))
    raise AssertionError("abort raises")


def _shortened(message: str) -> str:
    content = message.encode("utf-8", "replace")
    if len(content) <= _LONGEST_MESSAGE:
        return message
    return content[:_LONGEST_MESSAGE].decode("utf-8", "ignore") + "...TRUNCATED"


def _check_has_model_spec(request: Any) -> None:
    if not request.HasField("model_spec"):
        raise InvalidArgumentError("Missing ModelSpec")


def _fill(message: Any, name: str, version: int, signature_name: str) -> None:
    message.name = name
    message.version.value = version
    message.signature_name = signature_name
