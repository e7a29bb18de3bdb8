"""LiteRT models: what of them a client sees and gets, and when they are preferred."""

from __future__ import annotations

from pathlib import Path

import grpc
import numpy as np
import pytest
import tensorflow as tf
from flatbuffers import flexbuffers
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow.lite.python import schema_py_generated as schema
from tensorflow.lite.tools import flatbuffer_utils
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from adclick.serving.errors import InvalidArgumentError
from adclick.serving.model_server.configuration import BatchingOptions, ModelConfig
from adclick.serving.model_server.dataplane import ModelServer, ServerOptions
from adclick.serving.model_server.lite import LITE_FILE, LiteServable
from adclick.serving.model_server.model_set import ModelSpec
from adclick.serving.model_server.servable import LoadOptions
from adclick.serving.model_server.server import Endpoints, create_model_server, listening


@pytest.fixture(scope="module")
def lite_model() -> bytes:
    """y = x / 2 + 2."""

    @tf.function(input_signature=[tf.TensorSpec([1, 1], tf.float32, "x")])
    def half_plus_two(x: tf.Tensor) -> tf.Tensor:
        return tf.identity(x / 2 + 2, "y")

    converter = tf.lite.TFLiteConverter.from_concrete_functions([half_plus_two.get_concrete_function()])
    return bytes(converter.convert())


def test_a_model_without_signatures_is_called_by_its_tensors(lite_model: bytes) -> None:
    servable = LiteServable(lite_model, 2)
    (signature,) = servable.signatures.values()
    (name,), (output,) = signature.inputs, signature.outputs
    for shape in ((1, 1), (3, 1), (1, 1)):
        answer = servable.run("serving_default", {name: np.full(shape, 4.0, np.float32)})
        np.testing.assert_array_equal(answer[output], np.full(shape, 4.0))
    with pytest.raises(InvalidArgumentError, match=r"Expects arg\[0\] to be float but int32 is provided"):
        servable.run("serving_default", {name: np.zeros((1, 1), np.int32)})
    servable.close()


def test_what_is_no_model_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="Cannot build FlatBufferModel from buffer"):
        LiteServable(b"broken", 1)


@pytest.mark.parametrize("prefers_lite", [True, False])
def test_it_is_served_where_it_is_preferred(lite_model: bytes, tmp_path: Path, prefers_lite: bool) -> None:
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / LITE_FILE).write_bytes(lite_model)
    options = ServerOptions(poll_seconds=0, load=LoadOptions(prefers_lite=prefers_lite))
    server = ModelServer((ModelConfig("lite", str(tmp_path)),), options=options)
    server.start()
    assert server.is_ready() == prefers_lite
    if prefers_lite:
        (name,) = server.metadata(ModelSpec("lite")).signature_defs["serving_default"].inputs
        _, answer = server.predict_tensors(ModelSpec("lite"), {name: np.array([[2.0]], np.float32)})
        assert [value.tolist() for value in answer.values()] == [[[3.0]]]
    server.stop()


def named_model(definition: meta_graph_pb2.SignatureDef | None) -> bytes:
    """y = x / 2 + 2 of x [1], its tensors called so; `definition` stands where TensorFlow Serving looks for it."""

    @tf.function(input_signature=[tf.TensorSpec([1], tf.float32, "x")])
    def half_plus_two(x: tf.Tensor) -> tf.Tensor:
        return x / 2 + 2

    converter = tf.lite.TFLiteConverter.from_concrete_functions([half_plus_two.get_concrete_function()])
    model = flatbuffer_utils.convert_bytearray_to_object(bytearray(converter.convert()))
    (graph,) = model.subgraphs
    graph.tensors[graph.inputs[0]].name, graph.tensors[graph.outputs[0]].name = b"x", b"y"
    # What converters wrote before signatures were part of the format.
    model.signatureDefs, model.metadata = [], []
    if definition is not None:
        builder = flexbuffers.Builder()
        with builder.Map():
            builder.Key("serving_default")
            # So short a message has no byte that is not ASCII.
            builder.String(definition.SerializeToString().decode("ascii"))
        buffer, entry = schema.BufferT(), schema.MetadataT()
        buffer.data = np.frombuffer(bytes(builder.Finish()), np.uint8)
        model.buffers.append(buffer)
        entry.name, entry.buffer = b"signature_defs_metadata", len(model.buffers) - 1
        model.metadata.append(entry)
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def signature_def() -> meta_graph_pb2.SignatureDef:
    definition = meta_graph_pb2.SignatureDef(method_name="tensorflow/serving/predict")
    for infos, name in ((definition.inputs, "x"), (definition.outputs, "y")):
        infos[name].name = f"{name}:0"
        infos[name].dtype = types_pb2.DT_FLOAT
        infos[name].tensor_shape.dim.add(size=1)
    return definition


@pytest.mark.parametrize("definition", [None, signature_def()], ids=["by_tensors", "by_signature"])
def test_it_is_asked_as_tensorflow_serving_asks_its_own(
    definition: meta_graph_pb2.SignatureDef | None, tmp_path: Path
) -> None:
    """tensorflow_model_server_test.py: testPredictOnTfLite, testPredictWithSignatureDefOnTfLite."""
    (tmp_path / "00000123").mkdir()
    (tmp_path / "00000123" / LITE_FILE).write_bytes(named_model(definition))
    options = ServerOptions(poll_seconds=0, load=LoadOptions(prefers_lite=True))
    server = create_model_server((ModelConfig("default", str(tmp_path)),), options, BatchingOptions())
    with (
        listening(server, Endpoints(host="127.0.0.1", rest_port=0, grpc_port=0), model_name="default") as running,
        grpc.insecure_channel(f"127.0.0.1:{running.grpc_port}") as channel,
    ):
        server.wait_until_available(60.0)
        request = predict_pb2.PredictRequest()
        request.model_spec.name, request.model_spec.signature_name = "default", "serving_default"
        request.inputs["x"].dtype = types_pb2.DT_FLOAT
        request.inputs["x"].float_val.append(2.0)
        request.inputs["x"].tensor_shape.dim.add().size = 1
        answer = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(request, 60)
    assert answer.outputs["y"].dtype == types_pb2.DT_FLOAT and list(answer.outputs["y"].float_val) == [3.0]
    spec = answer.model_spec
    assert (spec.name, spec.signature_name, spec.version.value) == ("default", "serving_default", 123)
