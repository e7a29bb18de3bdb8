"""Messages over gRPC and what TensorFlow Serving's sources make of them: tensors, defaults, codes and whole refusals.

The sources: tensor.cc and saved_model/util.cc of TensorFlow; predict_util.cc, classifier.cc, regressor.cc,
multi_inference.cc, grpc_status_util.cc, get_model_status_impl.cc, model_service_impl.cc.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2, types_pb2
from tensorflow_serving.apis import get_model_status_pb2, inference_pb2, predict_pb2, regression_pb2

from tests.serving.conformance.conftest import ModelServerProcess
from tests.serving.conformance.test_grpc import (
    CLASSIFY,
    REGRESS,
    classification,
    example,
    multi,
    predict,
    regression,
)

INVALID, MISSING = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND


def tensor(dtype: int, shape: list[int], **fields: Any) -> Any:
    proto = tensor_pb2.TensorProto(dtype=dtype, **fields)
    proto.tensor_shape.SetInParent()
    for size in shape:
        proto.tensor_shape.dim.add(size=size)
    return proto


FLOAT, DOUBLE, INT8, INT32, INT64 = (types_pb2.DT_FLOAT, types_pb2.DT_DOUBLE, types_pb2.DT_INT8, types_pb2.DT_INT32, 9)
STRING, HALF, BOOL, COMPLEX = types_pb2.DT_STRING, types_pb2.DT_HALF, types_pb2.DT_BOOL, types_pb2.DT_COMPLEX64
UINT8, UINT32, UINT64 = types_pb2.DT_UINT8, types_pb2.DT_UINT32, types_pb2.DT_UINT64

#: A signature, a tensor, and the values that it stands for.
TENSORS: list[tuple[str, Any, Any]] = [
    ("float32", tensor(FLOAT, [2], float_val=[1.0, 2.0]), [1.0, 2.0]),
    ("float32", tensor(FLOAT, [2], float_val=[1.0, 2.0, 3.0]), [1.0, 2.0]),
    ("float32", tensor(FLOAT, [], float_val=[1.0, 2.0]), 1.0),
    ("float32", tensor(FLOAT, [0], float_val=[1.0]), []),
    ("float32", tensor(FLOAT, [3], float_val=[1.0, 2.0]), [1.0, 2.0, 2.0]),
    ("float32", tensor(FLOAT, [2, 2], float_val=[7.0]), [[7.0, 7.0], [7.0, 7.0]]),
    ("float32", tensor(FLOAT, [2]), [0.0, 0.0]),
    ("float32", tensor(FLOAT, []), 0.0),
    ("float32", tensor(FLOAT, [2], tensor_content=np.array([1, 2], np.float32).tobytes()), [1.0, 2.0]),
    ("float64", tensor(DOUBLE, [2], double_val=[0.1]), [0.1, 0.1]),
    ("float64", tensor(DOUBLE, [1], tensor_content=np.array([0.1]).tobytes()), [0.1]),
    ("int8", tensor(INT8, [2], int_val=[300, -1]), [44, -1]),
    ("uint8", tensor(UINT8, [2], int_val=[-1, 256]), [255, 0]),
    ("int32", tensor(INT32, [3], int_val=[1, 2, 3, 4]), [1, 2, 3]),
    ("int32", tensor(INT32, [2]), [0, 0]),
    ("int64", tensor(INT64, [1], int64_val=[2**62, 5]), [2**62]),
    ("uint32", tensor(UINT32, [1], uint32_val=[2**32 - 1]), [2**32 - 1]),
    ("uint64", tensor(UINT64, [2], uint64_val=[2**64 - 1]), [2**64 - 1, 2**64 - 1]),
    ("bool", tensor(BOOL, [3], bool_val=[True, False]), [True, False, False]),
    ("bool", tensor(BOOL, [1]), [False]),
    ("string", tensor(STRING, [2], string_val=[b"a", b"b", b"c"]), [b"a", b"b"]),
    ("string", tensor(STRING, [3], string_val=[b"a", b"b"]), [b"a", b"b", b"b"]),
    ("string", tensor(STRING, [2]), [b"", b""]),
    ("string", tensor(STRING, [], string_val=[b"x\0"]), b"x\0"),
    ("string", tensor(STRING, [2], tensor_content=b"\x01\x02abb"), [b"a", b"bb"]),
    ("half", tensor(HALF, [2], half_val=[0x3C00]), [1.0, 1.0]),
    ("complex", tensor(COMPLEX, [1], scomplex_val=[1.0, 2.0, 3.0, 4.0]), [1 + 2j]),
]


@pytest.mark.parametrize(("signature", "proto", "expected"), TENSORS)
def test_tensors(server: ModelServerProcess, signature: str, proto: Any, expected: Any) -> None:
    answer = server.prediction.Predict(predict("types", signature, x=proto)).outputs["y"]
    assert not answer.tensor_content
    assert tf.make_ndarray(answer).tolist() == expected


#: A tensor that stands for nothing.
BROKEN = [
    ("too little content", "float32", tensor(FLOAT, [2], tensor_content=b"abcd")),
    ("too much content", "float32", tensor(FLOAT, [1], tensor_content=b"abcdefgh")),
    ("strings cut off", "string", tensor(STRING, [2], tensor_content=b"\x01\x02ab")),
    ("strings that go on", "string", tensor(STRING, [1], tensor_content=b"\x01ab")),
    ("no type", "float32", tensor(types_pb2.DT_INVALID, [1], float_val=[1.0])),
    ("a type that does not exist", "float32", tensor(99, [1], float_val=[1.0])),
    ("a size below zero", "float32", tensor(FLOAT, [-2], float_val=[1.0])),
    ("a size beyond memory", "float32", tensor(FLOAT, [2**40], float_val=[1.0])),
    ("sizes whose product overflows", "float32", tensor(FLOAT, [2**40, 2**40], float_val=[1.0])),
]


@pytest.mark.parametrize(("signature", "proto"), [case[1:] for case in BROKEN], ids=[case[0] for case in BROKEN])
def test_broken_tensors(server: ModelServerProcess, signature: str, proto: Any) -> None:
    with pytest.raises(grpc.RpcError) as refusal:
        server.prediction.Predict(predict("types", signature, x=proto))
    assert (refusal.value.code(), refusal.value.details()) == (INVALID, "tensor parsing error: x")


@pytest.mark.parametrize(
    ("inputs", "expected"),
    [
        ({"x": [1.0]}, 12.0),
        ({"x": [1.0], "factor": [3.0]}, 13.0),
        ({"x": [1.0], "summand": [0.0]}, 2.0),
        ({"x": [1.0], "factor": [0.0], "summand": [0.0]}, 0.0),
    ],
)
def test_inputs_left_out_take_their_defaults(
    server: ModelServerProcess, inputs: dict[str, Any], expected: float
) -> None:
    response = server.prediction.Predict(predict("defaults", **inputs))
    assert list(response.outputs["y"].float_val) == [expected]


NEEDS_X = (
    "Signature input alias: x(feed name: x:0) not found in request and no default value provided. Inputs expected to be "
    "in the request {%s}, or default input alias set: %s"
)
SIZE = "input size does not match signature: %s. Sent extra: {%s}. Missing but required: {%s}."
#: A method, its message, the code and all the words.
REFUSALS: list[tuple[str, Callable[[], Any], grpc.StatusCode, str]] = [
    ("Predict", lambda: predict("defaults"), INVALID, NEEDS_X % ("", "factor,summand")),
    ("Predict", lambda: predict("defaults", factor=[1.0]), INVALID, NEEDS_X % ("factor", "factor,summand")),
    ("Predict", lambda: predict("half", z=[1.0]), INVALID, NEEDS_X % ("z", "")),
    (
        "Predict",
        lambda: predict("defaults", x=[1.0], z=[1.0]),
        INVALID,
        "Inputs contains invalid name. Used request inputs: x, request input: x,z",
    ),
    ("Predict", lambda: predict("half"), INVALID, SIZE % ("0!=1 len({}) != len({x})", "", "x")),
    (
        "Predict",
        lambda: predict("half", x=[1.0], a=[1.0]),
        INVALID,
        SIZE % ("2!=1 len({a,x}) != len({x})", "a", ""),
    ),
    (
        "Predict",
        lambda: predict("types", a=[1.0]),
        INVALID,
        SIZE % ("1!=3 len({a}) != len({a,b,c})", "", "b,c"),
    ),
    ("Predict", predict_pb2.PredictRequest, INVALID, "Missing ModelSpec"),
    ("Regress", regression_pb2.RegressionRequest, INVALID, "Missing ModelSpec"),
    ("Predict", lambda: predict("", x=[1.0]), INVALID, "ModelSpec has no name specified."),
    ("Predict", lambda: predict(x=[1.0], outputs=("y", "y")), INVALID, "duplicate output tensor alias: y"),
    (
        "Predict",
        lambda: predict(x=[1.0], outputs=("z",)),
        INVALID,
        "output tensor alias not found in signature: z Outputs expected to be in the set {y}.",
    ),
    ("Predict", lambda: predict(x=[1]), INVALID, "Expects arg[0] to be float but int32 is provided"),
    ("Regress", lambda: regression("no", example(x=1.0)), INVALID, "No signature was found with the name: no"),
    ("Classify", lambda: classification("no", example(x=1.0)), INVALID, "No signature was found with the name: no"),
    ("Regress", lambda: regression("regress_x_to_y"), INVALID, "Input is empty."),
    ("Classify", lambda: classification("classify_x_to_y"), INVALID, "Input is empty."),
    ("Regress", lambda: regression("no", model="no"), MISSING, "Servable not found for request: Latest(no)"),
    (
        "Regress",
        lambda: regression("regress_wrong_type", example(x=1.0)),
        INVALID,
        "Expected output Tensor of DT_FLOAT.  Got: DT_STRING",
    ),
    ("MultiInference", inference_pb2.MultiInferenceRequest, INVALID, "ModelSpec has no name specified."),
    (
        "MultiInference",
        lambda: multi(("regress_x_to_y", REGRESS), ("regress_x_to_y", CLASSIFY), examples=(example(x=1.0),)),
        INVALID,
        "Duplicate evaluation of signature: regress_x_to_y",
    ),
    (
        "MultiInference",
        lambda: multi(("no", REGRESS), examples=(example(x=1.0),)),
        INVALID,
        "Requested signature not found in model graph: no",
    ),
    (
        "MultiInference",
        lambda: multi(("regress_x_to_y", "tensorflow/serving/predict"), examples=(example(x=1.0),)),
        grpc.StatusCode.UNIMPLEMENTED,
        "Unsupported signature method_name: tensorflow/serving/predict",
    ),
    ("MultiInference", lambda: multi(("regress_x_to_y", REGRESS)), INVALID, "Input is empty."),
]


@pytest.mark.parametrize(("method", "request_", "code", "words"), REFUSALS)
def test_whole_refusals(
    server: ModelServerProcess, method: str, request_: Callable[[], Any], code: grpc.StatusCode, words: str
) -> None:
    with pytest.raises(grpc.RpcError) as refusal:
        getattr(server.prediction, method)(request_())
    assert (refusal.value.code(), refusal.value.details()) == (code, words)


@pytest.mark.parametrize(
    ("method", "request_", "words"),
    [
        ("Classify", lambda: classification("", example(x=1.0)), "No classification inputs found in SignatureDef"),
        ("Regress", lambda: regression("", example(x=1.0)), "No regression inputs found in SignatureDef"),
        (
            "Regress",
            lambda: regression("classify_x_to_y", example(x=1.0)),
            "No regression outputs found in SignatureDef",
        ),
        (
            "Classify",
            lambda: classification("classify_wrong_output", example(x=1.0)),
            'Expected classification signature outputs to contain at least one of "classes" or "scores". Signature was: ',
        ),
        (
            "MultiInference",
            lambda: multi(("regress_x_to_y", REGRESS), ("classify_wrong_output", CLASSIFY), examples=(example(x=1.0),)),
            'Expected classification signature outputs to contain at least one of "classes" or "scores". Signature was: ',
        ),
    ],
)
def test_signatures_of_other_kinds(
    server: ModelServerProcess, method: str, request_: Callable[[], Any], words: str
) -> None:
    with pytest.raises(grpc.RpcError) as refusal:
        getattr(server.prediction, method)(request_())
    assert refusal.value.code() is INVALID
    assert refusal.value.details().startswith(words)


@pytest.mark.parametrize("length", [900, 1200, 100_000])
def test_long_words_are_cut(server: ModelServerProcess, length: int) -> None:
    with pytest.raises(grpc.RpcError) as refusal:
        server.prediction.Predict(predict("m" * length, x=[1.0]))
    whole = f"Servable not found for request: Latest({'m' * length})"
    cut = whole if len(whole) <= 1024 else whole[:1024] + "...TRUNCATED"
    assert (refusal.value.code(), refusal.value.details()) == (MISSING, cut)


@pytest.mark.parametrize(
    ("name", "version", "label", "expected"),
    [
        ("half", None, None, [124, 123]),
        ("half", 123, None, [123]),
        ("half", None, "stable", [124, 123]),
        ("half", None, "nowhere", [124, 123]),
        ("types", None, None, [1]),
    ],
)
def test_statuses(
    server: ModelServerProcess, name: str, version: int | None, label: str | None, expected: list[int]
) -> None:
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = name
    if version is not None:
        request.model_spec.version.value = version
    if label is not None:
        request.model_spec.version_label = label
    assert [one.version for one in server.models.GetModelStatus(request).model_version_status] == expected


def test_what_is_counted(server: ModelServerProcess) -> None:
    def count(name: str) -> float:
        lines = server.http.get("/monitoring/prometheus/metrics").text.splitlines()
        return next((float(line.split()[-1]) for line in lines if line.startswith(f":tensorflow:serving:{name} ")), 0.0)

    examples = 'request_example_count_total{model="half"}'
    latency = 'request_latency_count{model_name="half",API="Regress",entrypoint="GRPC"}'
    runs = 'runtime_latency_count{model_name="half",API="Regress",runtime="TF1"}'
    failures = 'request_count{model_name="half",status="INVALID_ARGUMENT"}'
    before = [count(name) for name in (examples, latency, runs, failures)]
    server.prediction.MultiInference(multi(("regress_x_to_y", REGRESS), examples=(example(x=1.0), example(x=2.0))))
    server.prediction.Regress(regression("regress_x_to_y", example(x=1.0)))
    with pytest.raises(grpc.RpcError):
        server.prediction.Regress(regression("regress_x_to_y"))
    after = [count(name) for name in (examples, latency, runs, failures)]
    assert [late - early for early, late in zip(before, after, strict=True)] == [2.0, 1.0, 1.0, 1.0]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *[
            (f":tensorflow:serving:{name}", "counter")
            for name in (
                "request_count",
                "request_example_count_total",
                "request_log_count",
                "model_warmup_records_read",
                "batching_session:wrapped_run_count",
            )
        ],
        *[
            (f":tensorflow:serving:{name}", "histogram")
            for name in (
                "request_latency",
                "runtime_latency",
                "request_example_counts",
                "model_warmup_latency",
                "batching_session:queuing_latency",
                "batching_session:padding_size",
                "batching_session:input_batch_size",
                "batching_session:processed_batch_size",
            )
        ],
        (":tensorflow:serving:mlmd_map", "gauge"),
        (":tensorflow:cc:saved_model:load_attempt_count", "counter"),
        (":tensorflow:cc:saved_model:load_latency", "counter"),
        (":tensorflow:cc:saved_model:load_latency_by_stage", "histogram"),
        (":tensorflow:core:graph_runs", "counter"),
        (":tensorflow:core:graph_run_time_usecs", "counter"),
        (":tensorflow:core:graph_run_time_usecs_histogram", "histogram"),
        (":tensorflow:core:session_created", "gauge"),
    ],
)
def test_names_of_metrics(server: ModelServerProcess, name: str, kind: str) -> None:
    assert f"# TYPE {name} {kind}\n" in server.http.get("/monitoring/prometheus/metrics").text
