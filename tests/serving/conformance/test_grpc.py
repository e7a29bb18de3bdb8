"""Requests to the gRPC APIs and the answers that TensorFlow Serving's sources give them.

The sources: predict_util.cc, classifier.cc, regressor.cc, multi_inference.cc, get_model_metadata_impl.cc,
get_model_status_impl.cc, model_service_impl.cc, grpc_status_util.cc.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc
import numpy as np
import pytest
import tensorflow as tf
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    predict_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)

from tests.serving.conformance.conftest import ModelServerProcess

CLASSIFY, REGRESS = "tensorflow/serving/classify", "tensorflow/serving/regress"


def predict(model: str = "half", signature: str = "", outputs: tuple[str, ...] = (), **inputs: Any) -> Any:
    request = predict_pb2.PredictRequest(output_filter=outputs)
    request.model_spec.name = model
    request.model_spec.signature_name = signature
    for name, value in inputs.items():
        proto = value if not isinstance(value, (list, float, int)) else tf.make_tensor_proto(value)
        request.inputs[name].CopyFrom(proto)
    return request


def of_version(request: Any, version: int | None = None, label: str | None = None) -> Any:
    if version is not None:
        request.model_spec.version.value = version
    if label is not None:
        request.model_spec.version_label = label
    return request


def example(**features: float) -> Any:
    made = tf.train.Example()
    for name, value in features.items():
        made.features.feature[name].float_list.value.append(value)
    return made


def over_examples(kind: Any, signature: str, *examples: Any, model: str = "half", context: Any = None) -> Any:
    request = kind()
    request.model_spec.name = model
    request.model_spec.signature_name = signature
    if context is not None:
        request.input.example_list_with_context.context.CopyFrom(context)
        request.input.example_list_with_context.examples.extend(examples)
    elif examples:
        request.input.example_list.examples.extend(examples)
    return request


def regression(signature: str = "regress_x_to_y", *examples: Any, **options: Any) -> Any:
    return over_examples(regression_pb2.RegressionRequest, signature, *examples, **options)


def classification(signature: str = "classify_x_to_y", *examples: Any, **options: Any) -> Any:
    return over_examples(classification_pb2.ClassificationRequest, signature, *examples, **options)


def multi(*tasks: tuple[str, str], examples: tuple[Any, ...] = (), model: str = "half") -> Any:
    request = inference_pb2.MultiInferenceRequest()
    for signature, method in tasks:
        task = request.tasks.add(method_name=method)
        task.model_spec.name = model
        task.model_spec.signature_name = signature
    if examples:
        request.input.example_list.examples.extend(examples)
    return request


class TestPredict:
    def test_values_come_in_the_field_of_their_type(self, server: ModelServerProcess) -> None:
        response = server.prediction.Predict(predict(x=[1.0, 2.0]))
        assert (response.model_spec.name, response.model_spec.version.value) == ("half", 124)
        assert response.model_spec.signature_name == "serving_default"
        answer = response.outputs["y"]
        assert (answer.dtype, list(answer.float_val), answer.tensor_content) == (1, [3.5, 4.0], b"")
        assert [dimension.size for dimension in answer.tensor_shape.dim] == [2]

    @pytest.mark.parametrize(
        ("choice", "expected"), [({"version": 123}, 2.5), ({"label": "stable"}, 2.5), ({"label": "canary"}, 3.5)]
    )
    def test_versions_and_labels(self, server: ModelServerProcess, choice: dict[str, Any], expected: float) -> None:
        response = server.prediction.Predict(of_version(predict(x=[1.0]), **choice))
        assert list(response.outputs["y"].float_val) == [expected]

    @pytest.mark.parametrize(
        ("signature", "values", "field"),
        [
            ("float32", np.array([1.5], np.float32), "float_val"),
            ("float64", np.array([1.5]), "double_val"),
            ("int32", np.array([-5], np.int32), "int_val"),
            ("int64", np.array([2**62], np.int64), "int64_val"),
            ("int8", np.array([-5], np.int8), "int_val"),
            ("int16", np.array([-5], np.int16), "int_val"),
            ("uint8", np.array([200], np.uint8), "int_val"),
            ("uint32", np.array([2**31], np.uint32), "uint32_val"),
            ("uint64", np.array([2**63], np.uint64), "uint64_val"),
            ("bool", np.array([True, False]), "bool_val"),
            ("string", np.array([b"a\x00\xff"], object), "string_val"),
            ("half", np.array([1.5], np.float16), "half_val"),
            ("complex", np.array([1 + 2j], np.complex64), "scomplex_val"),
        ],
    )
    def test_every_type(self, server: ModelServerProcess, signature: str, values: Any, field: str) -> None:
        proto = tf.make_tensor_proto(values)
        answer = server.prediction.Predict(predict("types", signature, x=proto)).outputs["y"]
        assert [name.name for name, _ in answer.ListFields() if name.name.endswith("_val")] == [field]
        np.testing.assert_array_equal(tf.make_ndarray(answer), values)

    @pytest.mark.parametrize("shape", [[], [0], [2, 0], [2, 3, 1]])
    def test_every_shape(self, server: ModelServerProcess, shape: list[int]) -> None:
        values = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
        answer = server.prediction.Predict(predict("types", "float32", x=tf.make_tensor_proto(values))).outputs["y"]
        np.testing.assert_array_equal(tf.make_ndarray(answer), values)

    def test_packed_content_is_read(self, server: ModelServerProcess) -> None:
        packed = tf.make_tensor_proto(np.array([1.0, 2.0], np.float32))
        assert packed.tensor_content
        assert list(server.prediction.Predict(predict(x=packed)).outputs["y"].float_val) == [3.5, 4.0]

    def test_only_the_outputs_asked_for(self, server: ModelServerProcess) -> None:
        inputs = {"a": [1.0], "b": tf.make_tensor_proto(["x"]), "c": tf.make_tensor_proto([[1, 2]], tf.int64)}
        assert set(server.prediction.Predict(predict("types", **inputs)).outputs) == {
            "double",
            "text",
            "image_bytes",
            "sum",
        }
        filtered = server.prediction.Predict(predict("types", outputs=("sum", "text"), **inputs))
        assert set(filtered.outputs) == {"sum", "text"}
        assert list(filtered.outputs["sum"].int64_val) == [3]

    def test_over_a_unix_socket(self, server: ModelServerProcess) -> None:
        with grpc.insecure_channel(f"unix:{server.process.socket_path}") as channel:  # type: ignore[attr-defined]
            stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
            assert list(stub.Predict(predict(x=[1.0])).outputs["y"].float_val) == [3.5]

    def test_a_deadline(self, server: ModelServerProcess) -> None:
        with pytest.raises(grpc.RpcError) as refusal:
            server.prediction.Predict(predict(x=[1.0] * 500_000), timeout=0.001)
        assert refusal.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


class TestExamples:
    def test_classify(self, server: ModelServerProcess) -> None:
        response = server.prediction.Classify(classification("classify_with_labels", example(x=1.0), example(x=2.0)))
        found = [[(one.label, one.score) for one in c.classes] for c in response.result.classifications]
        assert found == [[("half", 3.5)], [("half", 4.0)]]
        assert response.model_spec.signature_name == "classify_with_labels"
        assert response.model_spec.version.value == 124

    def test_regress(self, server: ModelServerProcess) -> None:
        response = server.prediction.Regress(of_version(regression("regress_x_to_y", example(x=1.0)), 123))
        assert [one.value for one in response.result.regressions] == [2.5]
        assert response.model_spec.version.value == 123

    def test_a_context_is_shared(self, server: ModelServerProcess) -> None:
        request = regression("regress_x_to_y2", example(x=1.0), example(x=1.0, x2=2.0), context=example(x2=6.0))
        assert [one.value for one in server.prediction.Regress(request).result.regressions] == [6.0, 4.0]

    def test_several_tasks_at_once(self, server: ModelServerProcess) -> None:
        request = multi(
            ("regress_x_to_y", REGRESS),
            ("classify_x_to_y", CLASSIFY),
            ("regress_x_to_y2", REGRESS),
            examples=(example(x=2.0, x2=4.0),),
        )
        results = server.prediction.MultiInference(request).results
        assert [one.model_spec.signature_name for one in results] == [
            "regress_x_to_y",
            "classify_x_to_y",
            "regress_x_to_y2",
        ]
        assert results[0].regression_result.regressions[0].value == 4.0
        assert results[1].classification_result.classifications[0].classes[0].score == 4.0
        assert results[2].regression_result.regressions[0].value == 5.0
        assert {one.model_spec.version.value for one in results} == {124}

    def test_several_tasks_by_tensors_of_their_own(self, server: ModelServerProcess) -> None:
        # As TensorFlow 2 exports signatures.
        request = multi(
            ("regress_double", REGRESS),
            ("classify_triple", CLASSIFY),
            ("regress_half", REGRESS),
            examples=(example(x=2.0), example(x=5.0)),
            model="types",
        )
        double, triple, half = server.prediction.MultiInference(request).results
        assert [one.value for one in double.regression_result.regressions] == [4.0, 10.0]
        assert [one.classes[0].score for one in triple.classification_result.classifications] == [6.0, 15.0]
        assert [one.value for one in half.regression_result.regressions] == [1.0, 2.5]


def two_models() -> Any:
    request = multi(("regress_x_to_y", REGRESS), ("classify_x_to_y", CLASSIFY), examples=(example(x=1.0),))
    request.tasks[1].model_spec.name = "types"
    return request


def nameless_task() -> Any:
    request = multi(("regress_x_to_y", REGRESS), ("classify_x_to_y", CLASSIFY), examples=(example(x=1.0),))
    request.tasks[1].model_spec.name = ""
    return request


def broken_tensor() -> Any:
    proto = tf.make_tensor_proto(np.array([1.0, 2.0], np.float32))
    proto.tensor_content = b"abc"
    return predict(x=proto)


def unclear_size() -> Any:
    proto = tf.make_tensor_proto([1.0])
    proto.tensor_shape.dim[0].size = -1
    return predict(x=proto)


INVALID, MISSING = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND
PRECONDITION = grpc.StatusCode.FAILED_PRECONDITION
REFUSALS: list[tuple[str, str, Callable[[], Any], grpc.StatusCode, str]] = [
    ("no model name", "Predict", lambda: predict("", x=[1.0]), INVALID, "ModelSpec has no name specified."),
    (
        "an unknown model",
        "Predict",
        lambda: predict("no", x=[1.0]),
        MISSING,
        "Servable not found for request: Latest(no)",
    ),
    (
        "an unknown version",
        "Predict",
        lambda: of_version(predict(x=[1.0]), 7),
        MISSING,
        "Servable not found for request: Specific(half, 7)",
    ),
    (
        "an unknown label",
        "Predict",
        lambda: of_version(predict(x=[1.0]), label="x"),
        INVALID,
        "Unrecognized servable version label: x",
    ),
    (
        "an unknown signature",
        "Predict",
        lambda: predict(signature="no", x=[1.0]),
        PRECONDITION,
        'Serving signature key "no" not found.',
    ),
    (
        "no input",
        "Predict",
        lambda: predict(),
        INVALID,
        "input size does not match signature: 0!=1 len({}) != len({x}). Sent extra: {}. Missing but required: {x}.",
    ),
    (
        "an input too many",
        "Predict",
        lambda: predict(x=[1.0], z=[1.0]),
        INVALID,
        "input size does not match signature: 2!=1 len({x,z}) != len({x}). Sent extra: {z}. Missing but required: {}.",
    ),
    ("another type", "Predict", lambda: predict(x=[1]), INVALID, "Expects arg[0] to be float but int32 is provided"),
    ("text", "Predict", lambda: predict(x=tf.make_tensor_proto(["a"])), INVALID, "to be float but string is provided"),
    ("a broken tensor", "Predict", broken_tensor, INVALID, "tensor parsing error: x"),
    ("an unclear size", "Predict", unclear_size, INVALID, "tensor parsing error: x"),
    (
        "an unknown output",
        "Predict",
        lambda: predict(outputs=("z",), x=[1.0]),
        INVALID,
        "output tensor alias not found in signature: z Outputs expected to be in the set {y}.",
    ),
    (
        "an output twice",
        "Predict",
        lambda: predict(outputs=("y", "y"), x=[1.0]),
        INVALID,
        "duplicate output tensor alias: y",
    ),
    ("what the graph refuses", "Predict", lambda: predict("types", "refusing", x=[20.0]), INVALID, "too large"),
    ("no examples", "Regress", lambda: regression(), INVALID, "Input is empty."),
    (
        "regress by an unknown signature",
        "Regress",
        lambda: regression("no", example(x=1.0)),
        INVALID,
        "No signature was found with the name: no",
    ),
    (
        "regress by the predict signature",
        "Regress",
        lambda: regression("", example(x=1.0)),
        INVALID,
        "No regression inputs found in SignatureDef",
    ),
    (
        "regress of an unknown model",
        "Regress",
        lambda: regression("regress_x_to_y", example(x=1.0), model="no"),
        MISSING,
        "Servable not found for request: Latest(no)",
    ),
    (
        "an example without its feature",
        "Regress",
        lambda: regression("regress_x_to_y", example()),
        INVALID,
        "Feature: x (data type: float) is required but could not be found.",
    ),
    (
        "classify by the predict signature",
        "Classify",
        lambda: classification("", example(x=1.0)),
        INVALID,
        "No classification inputs found in SignatureDef",
    ),
    (
        "classify by several outputs",
        "Classify",
        lambda: classification("serving_default", example(x=1.0), model="types"),
        INVALID,
        "Expected one input Tensor.",
    ),
    ("no examples to classify", "Classify", lambda: classification(), INVALID, "Input is empty."),
    ("no tasks", "MultiInference", lambda: multi(), INVALID, "ModelSpec has no name specified."),
    (
        "tasks of two models",
        "MultiInference",
        two_models,
        INVALID,
        "All ModelSpecs in a MultiInferenceRequest must access the same model name.",
    ),
    ("a task without a model", "MultiInference", nameless_task, INVALID, "Found ModelSpec with an empty model name."),
    (
        "a task twice",
        "MultiInference",
        lambda: multi(("regress_x_to_y", REGRESS), ("regress_x_to_y", REGRESS), examples=(example(x=1.0),)),
        INVALID,
        "Duplicate evaluation of signature: regress_x_to_y",
    ),
    (
        "a task by an unknown signature",
        "MultiInference",
        lambda: multi(("no", REGRESS), examples=(example(x=1.0),)),
        INVALID,
        "Requested signature not found in model graph: no",
    ),
    (
        "a task to predict",
        "MultiInference",
        lambda: multi(("serving_default", "tensorflow/serving/predict"), examples=(example(x=1.0),)),
        grpc.StatusCode.UNIMPLEMENTED,
        "Unsupported signature method_name: tensorflow/serving/predict",
    ),
    (
        "a task over no examples",
        "MultiInference",
        lambda: multi(("regress_x_to_y", REGRESS), ("regress_x2_to_y3", REGRESS), examples=(example(x=1.0),)),
        INVALID,
        "Expects arg[0] to be float but string is provided",
    ),
    (
        "tasks without examples",
        "MultiInference",
        lambda: multi(("regress_x_to_y", REGRESS)),
        INVALID,
        "Input is empty.",
    ),
    (
        "metadata without a model",
        "GetModelMetadata",
        lambda: get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"]),
        INVALID,
        "Missing ModelSpec",
    ),
]


@pytest.mark.parametrize(
    ("method", "request_", "code", "words"), [case[1:] for case in REFUSALS], ids=[case[0] for case in REFUSALS]
)
def test_refusals(
    server: ModelServerProcess, method: str, request_: Callable[[], Any], code: grpc.StatusCode, words: str
) -> None:
    with pytest.raises(grpc.RpcError) as refusal:
        getattr(server.prediction, method)(request_())
    assert words in refusal.value.details()
    assert refusal.value.code() is code


class TestMetadata:
    def ask(self, server: ModelServerProcess, *fields: str, **choice: Any) -> Any:
        request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=fields)
        request.model_spec.name = "half"
        return server.prediction.GetModelMetadata(of_version(request, **choice))

    def test_signatures(self, server: ModelServerProcess) -> None:
        response = self.ask(server, "signature_def", label="stable")
        assert (response.model_spec.name, response.model_spec.version.value) == ("half", 123)
        signatures = get_model_metadata_pb2.SignatureDefMap()
        response.metadata["signature_def"].Unpack(signatures)
        assert signatures.signature_def["regress_x_to_y"].method_name == REGRESS
        assert signatures.signature_def["serving_default"].inputs["x"].name == "x:0"

    @pytest.mark.parametrize(
        ("fields", "words"),
        [((), "must specify at least one metadata_field"), (("nothing",), "is not supported")],
    )
    def test_other_fields(self, server: ModelServerProcess, fields: tuple[str, ...], words: str) -> None:
        with pytest.raises(grpc.RpcError) as refusal:
            self.ask(server, *fields)
        assert refusal.value.code() is INVALID
        assert words in refusal.value.details()


class TestStatus:
    def ask(self, server: ModelServerProcess, name: str = "half", **choice: Any) -> Any:
        request = get_model_status_pb2.GetModelStatusRequest()
        request.model_spec.name = name
        return server.models.GetModelStatus(of_version(request, **choice)).model_version_status

    def test_versions(self, server: ModelServerProcess) -> None:
        assert [(one.version, one.state, one.status.error_code) for one in self.ask(server)] == [
            (124, get_model_status_pb2.ModelVersionStatus.AVAILABLE, 0),
            (123, get_model_status_pb2.ModelVersionStatus.AVAILABLE, 0),
        ]
        assert [one.version for one in self.ask(server, version=123)] == [123]

    @pytest.mark.parametrize(
        ("name", "choice", "words"),
        [
            ("no", {}, "Could not find any versions of model no"),
            ("half", {"version": 7}, "Could not find version 7 of model half"),
        ],
    )
    def test_what_is_not_there(self, server: ModelServerProcess, name: str, choice: Any, words: str) -> None:
        with pytest.raises(grpc.RpcError) as refusal:
            self.ask(server, name, **choice)
        assert (refusal.value.code(), refusal.value.details()) == (MISSING, words)

    def test_without_a_model(self, server: ModelServerProcess) -> None:
        with pytest.raises(grpc.RpcError) as refusal:
            server.models.GetModelStatus(get_model_status_pb2.GetModelStatusRequest())
        assert (refusal.value.code(), refusal.value.details()) == (INVALID, "Missing ModelSpec")

    def test_a_reload_of_another_kind_is_refused(self, server: ModelServerProcess) -> None:
        with pytest.raises(grpc.RpcError) as refusal:
            server.models.HandleReloadConfigRequest(model_management_pb2.ReloadConfigRequest())
        assert refusal.value.code() is INVALID
        assert "Only ModelConfigList is currently supported" in refusal.value.details()

    def test_health(self, server: ModelServerProcess) -> None:
        with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
            answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
