"""Malformed requests: each is refused as the client's fault, and the server goes on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from adclick.serving.model_server.server import RunningServer, running_server
from benchmarks.malformed import grpc_requests, rest_requests
from tests.serving.test_model_server import ROW_SCORE, publish, row

REQUESTS = 600
#: What says that the client is at fault.
CLIENT_FAULTS = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.OUT_OF_RANGE,
    grpc.StatusCode.UNIMPLEMENTED,
}


@pytest.fixture(scope="module")
def server(models: Callable[[int], Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    base_path = tmp_path_factory.mktemp("served")
    publish(models(0), base_path, 7)
    with running_server(base_path, grpc_port=0) as running:
        yield running


def test_rest(server: RunningServer) -> None:
    path = "/v1/models/adclick:predict"
    found: Counter[str] = Counter()
    with httpx.Client(base_url=server.url, trust_env=False) as client:
        for request in rest_requests(path, row(), REQUESTS):
            answer = client.request(request.method, request.path, content=request.body, headers=request.headers)
            # An address beside the API's is answered as any web server does, as TensorFlow Serving's is.
            is_beside = answer.status_code == 404 and answer.headers["content-type"].startswith("text/html")
            if not 400 <= answer.status_code < 500 or not (is_beside or answer.json().keys() == {"error"}):
                found[f"{request.kind}: {answer.status_code} {answer.text[:200]} for {request.body[:300]!r}"] += 1
        assert not found
        assert client.post(path, json={"instances": [row()]}).json() == {"predictions": [ROW_SCORE]}


def test_grpc(server: RunningServer) -> None:
    good = predict_pb2.PredictRequest()
    good.model_spec.name = "adclick"
    good.inputs["site"].CopyFrom(tf.make_tensor_proto(["games"]))
    good.inputs["age"].CopyFrom(tf.make_tensor_proto([2.0]))
    good.inputs["position"].CopyFrom(tf.make_tensor_proto([3], tf.int64))
    good.inputs["tags"].CopyFrom(tf.make_tensor_proto([["a", ""]]))
    found: Counter[str] = Counter()
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        for kind, request in grpc_requests(good, REQUESTS):
            error: Any = None
            try:
                stub.Predict(request)
            except grpc.RpcError as refusal:
                error = refusal
            if error is None or error.code() not in CLIENT_FAULTS:
                found[f"{kind}: {error and (error.code(), error.details())} for {str(request)[:600]}"] += 1
        assert not found
        answer = stub.Predict(good).outputs["click_probability"]
        assert list(answer.float_val) == [ROW_SCORE]
