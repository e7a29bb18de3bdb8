"""Requests to the REST API and the answers that TensorFlow Serving's sources give them.

Each case is a request and its answer. Where a case has words, they are in the `error` of the answer. The sources:
json_tensor.cc (bodies), http_rest_api_util.cc and http_rest_api_handler.cc (addresses), classifier.cc and regressor.cc,
http_server.cc (status codes), api_rest.md (documented examples).
"""

from __future__ import annotations

import base64
import gzip
import json
import math
from typing import Any

import httpx
import pytest

from tests.serving.conformance.conftest import ModelServerProcess

HALF = "/v1/models/half:predict"
TYPES = "/v1/models/types:predict"
CLASSIFY = "/v1/models/half:classify"
REGRESS = "/v1/models/half:regress"
BINARY = base64.b64encode(b"\x00\xff\xfe").decode()


def named(signature: str, **body: Any) -> dict[str, Any]:
    return {"signature_name": signature, **body}


ANSWERS: list[tuple[str, str, Any, Any]] = [
    # json_tensor.cc, FillTensorMapFromInstancesList and MakeRowFormatJsonFromTensors.
    ("rows", HALF, {"instances": [1.0, 2.0, 5.0]}, {"predictions": [3.5, 4.0, 5.5]}),
    ("rows of lists", HALF, {"instances": [[1.0], [2.0]]}, {"predictions": [[3.5], [4.0]]}),
    ("rows by name", HALF, {"instances": [{"x": 1.0}]}, {"predictions": [3.5]}),
    ("integers for floats", HALF, {"instances": [1, 2]}, {"predictions": [3.5, 4.0]}),
    ("columns", HALF, {"inputs": [1.0, 2.0]}, {"outputs": [3.5, 4.0]}),
    ("columns by name", HALF, {"inputs": {"x": [1.0]}}, {"outputs": [3.5]}),
    ("a scalar column", HALF, {"inputs": 1.0}, {"outputs": 3.5}),
    ("an extra column is ignored", HALF, {"inputs": {"x": [1.0], "z": 3}}, {"outputs": [3.5]}),
    ("an extra key is ignored", HALF, {"instances": [1.0], "comment": "x"}, {"predictions": [3.5]}),
    ("the signature by name", HALF, named("serving_default", instances=[1.0]), {"predictions": [3.5]}),
    ("an empty signature name is the default", HALF, named("", instances=[1.0]), {"predictions": [3.5]}),
    ("nested", HALF, {"instances": [[[1.0, 2.0], [3.0, 4.0]]]}, {"predictions": [[[3.5, 4.0], [4.5, 5.0]]]}),
    ("a version", "/v1/models/half/versions/123:predict", {"instances": [1.0]}, {"predictions": [2.5]}),
    ("the other version", "/v1/models/half/versions/124:predict", {"instances": [1.0]}, {"predictions": [3.5]}),
    ("a label", "/v1/models/half/labels/stable:predict", {"instances": [1.0]}, {"predictions": [2.5]}),
    ("the other label", "/v1/models/half/labels/canary:predict", {"instances": [1.0]}, {"predictions": [3.5]}),
    ("an escaped name", "/v1/models/h%61lf:predict", {"instances": [1.0]}, {"predictions": [3.5]}),
    ("any case", "/V1/MODELS/half:predict", {"instances": [1.0]}, {"predictions": [3.5]}),
    (
        "several inputs and outputs by rows",
        TYPES,
        {"instances": [{"a": 1.5, "b": "x", "c": [1, 2]}, {"a": 2, "b": "", "c": [3, 4]}]},
        {
            "predictions": [
                {"double": 3.0, "text": "x", "image_bytes": {"b64": "eA=="}, "sum": 3},
                {"double": 4.0, "text": "", "image_bytes": {"b64": ""}, "sum": 7},
            ]
        },
    ),
    (
        "several inputs and outputs by columns",
        TYPES,
        {"inputs": {"a": [1.5], "b": ["x"], "c": [[1, 2]]}},
        {"outputs": {"double": [3.0], "text": ["x"], "image_bytes": [{"b64": "eA=="}], "sum": [3]}},
    ),
    ("base64", TYPES, named("string", instances=[{"b64": "aGFsbG8="}]), {"predictions": ["hallo"]}),
    ("base64 by name", TYPES, named("string", instances=[{"x": {"b64": "aGFsbG8="}}]), {"predictions": ["hallo"]}),
    ("base64 in a list", TYPES, named("string", inputs=[{"b64": "YQ=="}, "b"]), {"outputs": ["a", "b"]}),
    ("unicode", TYPES, named("string", inputs=["äöü€😀"]), {"outputs": ["äöü€😀"]}),
    ("escapes", TYPES, named("string", inputs=['a"b\\c\n\t']), {"outputs": ['a"b\\c\n\t']}),
    ("empty text", TYPES, named("string", inputs=[""]), {"outputs": [""]}),
    ("float32", TYPES, named("float32", inputs=[0.1, 1e10, -2.5]), {"outputs": [0.1, 1e10, -2.5]}),
    ("float64", TYPES, named("float64", inputs=[0.1, 1e300]), {"outputs": [0.1, 1e300]}),
    ("int32", TYPES, named("int32", inputs=[1, -(2**31)]), {"outputs": [1, -(2**31)]}),
    ("int64", TYPES, named("int64", inputs=[2**63 - 1, -(2**63)]), {"outputs": [2**63 - 1, -(2**63)]}),
    ("int8", TYPES, named("int8", inputs=[127, -128]), {"outputs": [127, -128]}),
    ("int16", TYPES, named("int16", inputs=[32767]), {"outputs": [32767]}),
    ("uint8", TYPES, named("uint8", inputs=[255, 0]), {"outputs": [255, 0]}),
    ("uint32", TYPES, named("uint32", inputs=[2**32 - 1]), {"outputs": [2**32 - 1]}),
    ("uint64", TYPES, named("uint64", inputs=[2**64 - 1]), {"outputs": [2**64 - 1]}),
    ("bool", TYPES, named("bool", inputs=[True, False]), {"outputs": [True, False]}),
    ("a scalar output by columns", TYPES, named("scalar", inputs=[1.0, 2.0]), {"outputs": 3.0}),
    ("an empty list", TYPES, named("float32", inputs=[]), {"outputs": []}),
    ("a table", TYPES, named("look_up", inputs=["two", "three"]), {"outputs": [2, -1]}),
    ("the largest float", TYPES, named("float32", inputs=[3.4028234663852886e38]), None),
    ("exact integers as floats", TYPES, named("float32", inputs=[16777215]), {"outputs": [16777215.0]}),
    # classifier.cc and regressor.cc over json_tensor.cc, FillClassifyRegressRequestFromJson.
    (
        "regress",
        REGRESS,
        named("regress_x_to_y", examples=[{"x": 1.0}, {"x": [2.0]}]),
        {"results": [3.5, 4.0]},
    ),
    (
        "regress by another output",
        REGRESS,
        named("regress_x_to_y2", examples=[{"x": 1.0, "x2": 4.0}]),
        {"results": [5.0]},
    ),
    (
        "a context is shared",
        REGRESS,
        named("regress_x_to_y2", context={"x2": 6.0}, examples=[{"x": 1.0}, {"x": 1.0}]),
        {"results": [6.0, 6.0]},
    ),
    (
        "an example's own value counts before the context's",
        REGRESS,
        named("regress_x_to_y2", context={"x2": 6.0}, examples=[{"x": 1.0, "x2": 2.0}]),
        {"results": [4.0]},
    ),
    (
        "regress of a version",
        "/v1/models/half/versions/123:regress",
        named("regress_x_to_y", examples=[{"x": 1.0}]),
        {"results": [2.5]},
    ),
    ("classify by scores", CLASSIFY, named("classify_x_to_y", examples=[{"x": 1.0}]), {"results": [[["", 3.5]]]}),
    (
        "classify by labels and scores",
        CLASSIFY,
        named("classify_with_labels", examples=[{"x": 1.0}, {"x": 2.0}]),
        {"results": [[["half", 3.5]], [["half", 4.0]]]},
    ),
    (
        "classify by labels",
        CLASSIFY,
        named("classify_labels_only", examples=[{"x": 1.0}]),
        {"results": [[["half", 0.0]]]},
    ),
    (
        "an example without the optional feature",
        REGRESS,
        named("regress_x_to_y2", examples=[{"x": 1.0}]),
        {"results": [3.0]},
    ),
]

REFUSALS: list[tuple[str, str, str, Any, int, str]] = [
    # json_tensor.cc, ParseJson and FillPredictRequestFromJson.
    ("nothing", "POST", HALF, b"", 400, "JSON Parse error: The document is empty"),
    ("spaces", "POST", HALF, b"  ", 400, "JSON Parse error: The document is empty"),
    ("no JSON", "POST", HALF, b"hello", 400, "JSON Parse error: Invalid value. at offset: 0"),
    ("cut off", "POST", HALF, b'{"instances": [1.0', 400, "JSON Parse error: Missing a comma or ] after an array element."),
    ("no colon", "POST", HALF, b'{"instances" [1.0]}', 400, "Missing a colon after a name of object member."),
    ("no name", "POST", HALF, b"{1: 2}", 400, "Missing a name for object member."),
    ("no quote", "POST", HALF, b'{"instances', 400, "Missing a closing quotation mark in string."),
    ("a number too big", "POST", HALF, b'{"instances": [1e999]}', 400, "Number too big to be stored in double."),
    ("not an object", "POST", HALF, [1.0], 400, "Is not object"),
    ("text", "POST", HALF, "x", 400, "Is not object"),
    ("neither form", "POST", HALF, {"rows": [1.0]}, 400, "Missing 'inputs' or 'instances' key"),
    ("both forms", "POST", HALF, {"instances": [1.0], "inputs": [1.0]}, 400, "expecting only one of 'inputs' or 'instances' keys to exist"),
    ("instances no list", "POST", HALF, {"instances": 1.0}, 400, "Expecting 'instances' to be an list/array"),
    ("instances an object", "POST", HALF, {"instances": {"x": 1.0}}, 400, "Expecting 'instances' to be an list/array"),
    ("no instances", "POST", HALF, {"instances": []}, 400, "No values in 'instances' array"),
    ("a signature name that is no text", "POST", HALF, {"signature_name": 5, "instances": [1.0]}, 400, "'signature_name' key must be a string value."),
    ("an unknown signature", "POST", HALF, named("nowhere", instances=[1.0]), 400, 'Serving signature name: "nowhere" not found in signature def'),
    ("a name that is unknown", "POST", HALF, {"instances": [{"z": 1.0}]}, 400, "Failed to process element: 0 key: z of 'instances' list. Error: INVALID_ARGUMENT: JSON object: does not have named input: z"),
    ("a missing column", "POST", TYPES, {"inputs": {"a": [1.0]}}, 400, "Missing named input: b in 'inputs' object."),
    ("a missing name in a row", "POST", TYPES, {"instances": [{"a": 1.0}]}, 400, "a,b,c"),
    ("plain rows for several inputs", "POST", TYPES, {"instances": [1.0]}, 400, "instances is a plain list, but expecting list of objects as multiple input tensors required as per tensorinfo_map"),
    ("a plain column for several inputs", "POST", TYPES, {"inputs": [1.0]}, 400, "inputs is a plain value/list, but expecting an object as multiple input tensors required as per tensorinfo_map"),
    ("an object after a list", "POST", HALF, {"instances": [1.0, {"x": 2.0}]}, 400, "Expecting value/list but got object at item 1 of input list"),
    ("a list after an object", "POST", HALF, {"instances": [{"x": 1.0}, 2.0]}, 400, "Expecting object but got list at item 1 of input list"),
    ("text for a number", "POST", HALF, {"instances": ["x"]}, 400, "Type: String is not of expected type: float"),
    ("null for a number", "POST", HALF, {"instances": [None]}, 400, "Type: Null is not of expected type: float"),
    ("true for a number", "POST", HALF, {"instances": [True]}, 400, "is not of expected type: float"),
    ("a number for text", "POST", TYPES, named("string", instances=[1]), 400, "Type: Number is not of expected type: string"),
    ("a fraction for an integer", "POST", TYPES, named("int64", instances=[1.5]), 400, "Type: Number is not of expected type: int64"),
    ("an integer for true", "POST", TYPES, named("bool", instances=[1]), 400, "is not of expected type: bool"),
    ("an integer too large", "POST", TYPES, named("int32", instances=[2**31]), 400, "is not of expected type: int32"),
    ("a negative for unsigned", "POST", TYPES, named("uint32", instances=[-1]), 400, "is not of expected type: uint32"),
    ("rows of other sizes", "POST", HALF, {"instances": [[1.0], [1.0, 2.0]]}, 400, "Failed to process element: 1 of 'instances' list. Error: INVALID_ARGUMENT: Expecting tensor size: 1 but got: 2"),
    ("rows of other shapes", "POST", HALF, {"instances": [[[1.0, 2.0]], [[1.0], [2.0]]]}, 400, "Expecting shape [1,2] but got: [2,1]"),
    ("ragged", "POST", HALF, {"inputs": [[1.0, 2.0], [3.0]]}, 400, "Encountered list at unexpected size: 1 at level: 1 expected size: 2"),
    ("a list where a value was", "POST", HALF, {"inputs": [1.0, [2.0]]}, 400, "Encountered list at unexpected level: 1 expected < 1"),
    ("base64 that is none", "POST", TYPES, named("string", instances=[{"b64": "*"}]), 400, "Unable to base64 decode"),
    ("an object that is no base64", "POST", TYPES, named("string", inputs={"x": [{"b65": "a"}]}), 400, "not formatted correctly for base64 data"),
    ("a type that JSON cannot carry", "POST", TYPES, named("half", inputs=[1.0]), 501, "to type: half"),
    ("a complex one", "POST", TYPES, named("complex", inputs=[1.0]), 501, "to type: complex64"),
    ("a scalar output by rows", "POST", TYPES, named("scalar", instances=[1.0]), 400, "Tensor name: sum has no shape information"),
    ("uneven outputs by rows", "POST", TYPES, named("uneven", instances=[1.0, 2.0]), 400, "has inconsistent batch size:"),
    ("what the graph refuses", "POST", TYPES, named("refusing", instances=[20.0]), 400, "too large"),
    # http_rest_api_util.cc, ParseModelInfo; server_core.cc, ServableRequestFromModelSpec.
    ("an unknown model", "POST", "/v1/models/nowhere:predict", {"instances": [1.0]}, 404, "Servable not found for request: Latest(nowhere)"),
    ("an unknown version", "POST", "/v1/models/half/versions/7:predict", {"instances": [1.0]}, 404, "Servable not found for request: Specific(half, 7)"),
    ("an unknown label", "POST", "/v1/models/half/labels/x:predict", {"instances": [1.0]}, 400, "Unrecognized servable version label: x"),
    ("a version too long", "POST", "/v1/models/half/versions/99999999999999999999:predict", {}, 400, "Failed to convert version: 99999999999999999999 to numeric."),
    ("a version and a label", "POST", "/v1/models/half/versions/123/labels/stable:predict", {}, 400, "Malformed request: POST /v1/models/half/versions/123/labels/stable:predict"),
    ("an unknown method", "POST", "/v1/models/half:explode", {}, 400, "Malformed request: POST /v1/models/half:explode"),
    ("no method", "POST", "/v1/models/half", {}, 400, "Malformed request: POST /v1/models/half"),
    ("a slash at the end", "POST", "/v1/models/half:predict/", {}, 400, "Malformed request: POST /v1/models/half:predict/"),
    ("GET of predict", "GET", HALF, None, 400, "Malformed request: GET /v1/models/half:predict"),
    ("PUT", "PUT", HALF, {}, 400, "Malformed request: PUT"),
    ("DELETE", "DELETE", "/v1/models/half", None, 400, "Malformed request: DELETE"),
    ("a query is part of the name", "GET", "/v1/models/half?x=1", None, 404, "Could not find any versions of model half?x=1"),
    ("another word", "GET", "/v1/foo", None, 400, "Malformed request: GET /v1/foo"),
    ("no model name", "GET", "/v1/models", None, 400, "Missing model name in request."),
    ("a version that is no number", "GET", "/v1/models/half/versions/one", None, 400, "Malformed request"),
    ("status of an unknown model", "GET", "/v1/models/nowhere", None, 404, "Could not find any versions of model nowhere"),
    ("status of an unknown version", "GET", "/v1/models/half/versions/7", None, 404, "Could not find version 7 of model half"),
    ("metadata of an unknown model", "GET", "/v1/models/nowhere/metadata", None, 404, "Servable not found for request: Latest(nowhere)"),
    ("metadata of an unknown version", "GET", "/v1/models/half/versions/7/metadata", None, 404, "Servable not found for request: Specific(half, 7)"),
    # json_tensor.cc, FillClassifyRegressRequestFromJson and AddValueToFeature.
    ("no examples", "POST", REGRESS, named("regress_x_to_y"), 400, "When method is classify, key 'examples' is expected and was not found"),
    ("examples no list", "POST", REGRESS, named("regress_x_to_y", examples={}), 400, "Expecting 'examples' value to be an list/array"),
    ("empty examples", "POST", REGRESS, named("regress_x_to_y", examples=[]), 400, "'examples' value is an empty array"),
    ("an example no object", "POST", REGRESS, named("regress_x_to_y", examples=[1]), 400, "Example must be JSON object but got JSON Number"),
    ("a context no object", "POST", REGRESS, named("regress_x_to_y", context=[], examples=[{"x": 1.0}]), 400, "Example must be JSON object but got JSON Array"),
    ("a null in an example", "POST", REGRESS, named("regress_x_to_y", examples=[{"x": None}]), 400, "Feature: x has element with unexpected JSON type: Null"),
    ("a list in a list", "POST", REGRESS, named("regress_x_to_y", examples=[{"x": [[1.0]]}]), 400, "Feature: x has element with unexpected JSON type: Array"),
    ("an object in an example", "POST", REGRESS, named("regress_x_to_y", examples=[{"x": {"y": 1}}]), 400, "Feature: x has element with unexpected JSON type: Object"),
    ("mixed types in a feature", "POST", REGRESS, named("regress_x_to_y", examples=[{"x": [1.0, "a"]}]), 400, "Unexpected element type in feature: x expecting type: float"),
    ("an unsigned in a feature", "POST", REGRESS, named("regress_x_to_y", examples=[{"x": 2**64 - 1}]), 400, "Feature: x has uint64_t element. Only int64_t is supported."),
    ("an example of another type", "POST", REGRESS, named("regress_x_to_y", examples=[{"x": 1}]), 400, "Data types don't match"),
    ("an example without its feature", "POST", REGRESS, named("regress_x_to_y", examples=[{}]), 400, "Feature: x (data type: float) is required but could not be found."),
    ("regress by an unknown signature", "POST", REGRESS, named("nowhere", examples=[{"x": 1.0}]), 400, "No signature was found with the name: nowhere"),
    ("classify by an unknown signature", "POST", CLASSIFY, named("nowhere", examples=[{"x": 1.0}]), 400, "No signature was found with the name: nowhere"),
    ("classify by the predict signature", "POST", CLASSIFY, {"examples": [{"x": 1.0}]}, 400, "No classification inputs found in SignatureDef"),
    ("classify by wrong outputs", "POST", CLASSIFY, named("classify_wrong_output", examples=[{"x": 1.0}]), 400, 'Expected classification signature outputs to contain at least one of "classes" or "scores"'),
    ("regress by wrong outputs", "POST", REGRESS, named("classify_x_to_y", examples=[{"x": 1.0}]), 400, "No regression outputs found in SignatureDef"),
    ("regress by text", "POST", REGRESS, named("regress_wrong_type", examples=[{"x": 1.0}]), 400, "Expected output Tensor of DT_FLOAT.  Got: DT_STRING"),
    ("regress of an unknown model", "POST", "/v1/models/nowhere:regress", {"examples": [{"x": 1.0}]}, 404, "Servable not found for request: Latest(nowhere)"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "request_", "expected"), [case[1:] for case in ANSWERS], ids=[c[0] for c in ANSWERS])
def test_answers(server: ModelServerProcess, path: str, request_: Any, expected: Any) -> None:
    answer = server.http.post(path, json=request_)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json"), answer.text
    if expected is not None:
        assert answer.json() == expected


@pytest.mark.parametrize(
    ("method", "path", "request_", "status", "words"), [case[1:] for case in REFUSALS], ids=[c[0] for c in REFUSALS]
)
def test_refusals(server: ModelServerProcess, method: str, path: str, request_: Any, status: int, words: str) -> None:
    body = request_ if isinstance(request_, bytes) else b"" if request_ is None else json.dumps(request_).encode()
    answer = server.http.request(method, path, content=body)
    assert answer.json().keys() == {"error"}
    assert words in answer.json()["error"]
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/json")


def test_outside_the_api(server: ModelServerProcess) -> None:
    assert server.http.get("/").status_code == 404
    assert server.http.post("/v2/models/half:predict", json={}).status_code == 404


def test_tokens_for_numbers_that_json_lacks(server: ModelServerProcess) -> None:
    body = b'{"signature_name": "float32", "instances": [NaN, Infinity, -Infinity]}'
    answer = server.http.post(TYPES, content=body)
    nan, most, least = answer.json()["predictions"]
    assert math.isnan(nan)
    assert (most, least) == (math.inf, -math.inf)
    assert b"NaN" in answer.content
    unusual = server.http.post(TYPES, json=named("unusual", instances=[0.0, -1.0])).json()["predictions"]
    assert unusual[0] == {"inverse": math.inf, "root": 0.0}
    assert unusual[1]["inverse"] == -1.0
    assert math.isnan(unusual[1]["root"])


def test_floats_have_the_fewest_digits(server: ModelServerProcess) -> None:
    answer = server.http.post(TYPES, json=named("float32", inputs=[0.1, 16777216.0, 1.0, 1e-7]))
    assert answer.text.replace(" ", "").replace("\n", "") in (
        '{"outputs":[0.1,16777216.0,1.0,1e-7]}',
        '{"outputs":[0.1,16777216.0,1.0,1e-07]}',
    )


def test_bytes_go_in_and_out(server: ModelServerProcess) -> None:
    row = {"a": 1.0, "b": {"b64": BINARY}, "c": [1]}
    (answer,) = server.http.post(TYPES, json={"instances": [row]}).json()["predictions"]
    assert answer["image_bytes"] == {"b64": BINARY}


def test_gzipped_bodies(server: ModelServerProcess) -> None:
    packed = gzip.compress(b'{"instances": [1.0]}')
    answer = server.http.post(HALF, content=packed, headers={"content-encoding": "gzip"})
    assert answer.json() == {"predictions": [3.5]}
    cut = server.http.post(HALF, content=packed[:-6], headers={"content-encoding": "gzip"})
    assert cut.status_code == 400


def test_status(server: ModelServerProcess) -> None:
    def available(version: int) -> dict[str, Any]:
        status = {"error_code": "OK", "error_message": ""}
        return {"version": str(version), "state": "AVAILABLE", "status": status}

    assert server.http.get("/v1/models/half").json() == {"model_version_status": [available(124), available(123)]}
    assert server.http.get("/v1/models/half/versions/123").json() == {"model_version_status": [available(123)]}
    # The status knows no labels: it is that of all versions.
    by_label = server.http.get("/v1/models/half/labels/stable").json()
    assert by_label == {"model_version_status": [available(124), available(123)]}


def test_metadata(server: ModelServerProcess) -> None:
    for path, version in (("", "124"), ("/versions/123", "123"), ("/labels/stable", "123")):
        document = server.http.get(f"/v1/models/half{path}/metadata").json()
        assert document["model_spec"] == {"name": "half", "signature_name": "", "version": version}
        signatures = document["metadata"]["signature_def"]["signature_def"]
        assert signatures["regress_x_to_y"]["method_name"] == "tensorflow/serving/regress"
        assert signatures["serving_default"]["inputs"]["x"] == {
            "dtype": "DT_FLOAT",
            "name": "x:0",
            "tensor_shape": {
                "dim": [{"size": "-1", "name": ""}, {"size": "1", "name": ""}],
                "unknown_rank": False,
            },
        }


def test_cross_origin(server: ModelServerProcess) -> None:
    answer = server.http.get("/v1/models/half")
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.headers["access-control-allow-methods"] == "POST, GET"
    assert answer.headers["access-control-allow-headers"] == "Content-Type"


def test_metrics(server: ModelServerProcess) -> None:
    server.http.post(HALF, json={"instances": [1.0]})
    answer = server.http.get("/monitoring/prometheus/metrics")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/plain")
    for line in (
        "# TYPE :tensorflow:serving:request_count counter",
        ':tensorflow:serving:request_count{model_name="half",status="OK"} ',
        ':tensorflow:serving:request_count{model_name="half",status="INVALID_ARGUMENT"} ',
        "# TYPE :tensorflow:serving:request_latency histogram",
        ':tensorflow:serving:request_latency_bucket{model_name="half",API="predict",entrypoint="REST",le="10"} ',
        ':tensorflow:serving:request_latency_count{model_name="half",API="predict",entrypoint="REST"} ',
        ':tensorflow:serving:runtime_latency_count{model_name="half",API="Predict",runtime="TF1"} ',
        ":tensorflow:cc:saved_model:load_attempt_count{model_path=",
        ":tensorflow:cc:saved_model:load_latency{model_path=",
    ):
        assert line in answer.text


def test_a_connection_is_kept_and_pipelined(server: ModelServerProcess) -> None:
    import socket
    from http.client import parse_headers

    request = b"GET /v1/models/types HTTP/1.1\r\nHost: x\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.rest_port), timeout=60) as connection:
        answers = connection.makefile("rb")
        connection.sendall(3 * request)
        for _ in range(3):
            assert answers.readline() == b"HTTP/1.1 200 OK\r\n"
            body = answers.read(int(parse_headers(answers)["Content-Length"]))
            assert json.loads(body)["model_version_status"]
        connection.sendall(b"nonsense\r\n\r\n")
        assert answers.readline().startswith(b"HTTP/1.1 400")


def test_many_clients_at_once(server: ModelServerProcess) -> None:
    from concurrent.futures import ThreadPoolExecutor

    def ask(number: int) -> Any:
        with httpx.Client(base_url=server.http.base_url, trust_env=False) as client:
            return client.post(HALF, json={"instances": [float(number)]}).json()["predictions"]

    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(ask, range(64))) == [[number / 2 + 3] for number in range(64)]
