"""Bodies sent over REST as they are, and answers byte for byte: numbers, faults, layout, words, addresses.

The sources: json_tensor.cc with RapidJSON's reader.h, writer.h and prettywriter.h; http_server.cc;
http_rest_api_util.cc.
"""

from __future__ import annotations

import pytest

from tests.serving.conformance.conftest import ModelServerProcess

HALF, TYPES = "/v1/models/half", "/v1/models/types"

#: What is sent in a column of a type, and what comes back.
NUMBERS: list[tuple[str, str, str]] = [
    *[
        ("float32", sent, answered)
        for sent, answered in (
            ("0", "0.0"),
            ("-0.0", "-0.0"),
            ("1", "1.0"),
            ("0.1", "0.1"),
            ("1e2", "100.0"),
            ("1E+2", "100.0"),
            ("123456", "123456.0"),
            ("1234567", "1234567.0"),
            ("16777216", "16777216.0"),
            ("16777217", "16777216.0"),
            ("16777219", "16777220.0"),
            ("1435774380", "1.43577434e+09"),
            ("1435774336", "1.43577434e+09"),
            ("1000000000", "1e+09"),
            ("9007199254740993", "9.00719925e+15"),
            ("18446744073709551615", "1.84467441e+19"),
            ("18446744073709551616", "1.84467441e+19"),
            ("-9223372036854775808", "-9.22337204e+18"),
            ("0.3333333333333333", "0.333333343"),
            ("0.123456789", "0.123456791"),
            ("1e-7", "1e-07"),
            ("1.5e-45", "1.4013e-45"),
            ("1e-60", "0.0"),
            ("-1e-60", "-0.0"),
            ("3.4028234663852886e38", "3.40282347e+38"),
            ("3.5e38", "Infinity"),
            ("-1e39", "-Infinity"),
            ("1.7976931348623157e308", "Infinity"),
            ("NaN", "NaN"),
            ("-NaN", "NaN"),
            ("Inf", "Infinity"),
            ("-Inf", "-Infinity"),
            ("Infinity", "Infinity"),
            ("-Infinity", "-Infinity"),
        )
    ],
    *[
        ("float64", sent, answered)
        for sent, answered in (
            ("0.1", "0.1"),
            ("0.3333333333333333", "0.33333333333333331"),
            ("123456.7", "123456.7"),
            ("1e22", "1e+22"),
            ("1234567890123", "1234567890123.0"),
            ("9007199254740993", "9007199254740992.0"),
            ("18446744073709551615", "1.8446744073709552e+19"),
            ("1e300", "1e+300"),
            ("5e-324", "4.94066e-324"),
            ("Inf", "Infinity"),
            ("NaN", "NaN"),
        )
    ],
    *[
        (kind, sent, sent)
        for kind, sent in (
            ("int8", "-128"),
            ("int16", "-32768"),
            ("int32", "-2147483648"),
            ("int32", "2147483647"),
            ("int64", "-9223372036854775808"),
            ("int64", "9223372036854775807"),
            ("uint32", "4294967295"),
            ("uint64", "18446744073709551615"),
            ("bool", "true"),
            ("bool", "false"),
            ("string", '""'),
            ("string", '"é\U0001f600"'),
            ("string", '"\\"\\\\\\b\\f\\n\\r\\t"'),
        )
    ],
    ("int8", "300", "44"),
    ("int8", "-129", "127"),
    ("int16", "65536", "0"),
    ("uint8", "-1", "255"),
    ("int32", "-0", "0"),
    ("string", '"\\u00e9\\ud83d\\ude00\\/"', '"é\U0001f600/"'),
    ("string", '{"b64": "YQ=="}', '"a"'),
    ("string", '{"b64": "YQ"}', '"a"'),
    ("string", '{"b64": " Y Q = = "}', '"a"'),
]


@pytest.mark.parametrize(("kind", "sent", "answered"), NUMBERS)
def test_values_by_columns_and_rows(server: ModelServerProcess, kind: str, sent: str, answered: str) -> None:
    columns = server.http.post(f"{TYPES}:predict", content=f'{{"signature_name": "{kind}", "inputs": [{sent}]}}')
    assert columns.text == f'{{\n    "outputs": [\n        {answered}\n    ]\n}}'
    rows = server.http.post(f"{TYPES}:predict", content=f'{{"signature_name": "{kind}", "instances": [{sent}]}}')
    assert rows.text == f'{{\n    "predictions": [{answered}\n    ]\n}}'


#: A type, what is sent, and the words of the refusal.
TYPE_FAULTS = [
    ("float32", '"1"', 'JSON Value: "1" Type: String is not of expected type: float'),
    ("float32", "null", "JSON Value: null Type: Null is not of expected type: float"),
    ("float64", "true", "JSON Value: true Type: True is not of expected type: double"),
    ("float64", '{"b64": "YQ=="}', 'JSON Value: {\n    "b64": "YQ=="\n} Type: Object is not of expected type: double'),
    ("int8", "2147483648", "JSON Value: 2147483648 Type: Number is not of expected type: int8"),
    ("int16", "1.0", "JSON Value: 1.0 Type: Number is not of expected type: int16"),
    ("int32", "2147483648", "JSON Value: 2147483648 Type: Number is not of expected type: int32"),
    ("int32", "1e0", "JSON Value: 1.0 Type: Number is not of expected type: int32"),
    ("int64", "9223372036854775808", "JSON Value: 9223372036854775808 Type: Number is not of expected type: int64"),
    ("int64", "NaN", "Type: Number is not of expected type: int64"),
    ("uint8", "false", "JSON Value: false Type: False is not of expected type: uint8"),
    ("uint32", "4294967296", "JSON Value: 4294967296 Type: Number is not of expected type: uint32"),
    ("uint32", "-1", "JSON Value: -1 Type: Number is not of expected type: uint32"),
    ("uint64", "18446744073709551616", "Value: 18446744073709552000.0 Type: Number is not of expected type: uint64"),
    ("uint64", "-1", "JSON Value: -1 Type: Number is not of expected type: uint64"),
    ("bool", "0", "JSON Value: 0 Type: Number is not of expected type: bool"),
    ("bool", '"true"', 'JSON Value: "true" Type: String is not of expected type: bool'),
    ("string", "1.5e-7", "JSON Value: 1.5e-7 Type: Number is not of expected type: string"),
    ("string", "null", "JSON Value: null Type: Null is not of expected type: string"),
    ("string", '{"b64": "!"}', "Unable to base64 decode"),
    ("string", '{"b64": 1}', 'JSON Value: {\n    "b64": 1\n} not formatted correctly for base64 data'),
    ("string", '{"b64": "YQ==", "b64": "YQ=="}', "not formatted correctly for base64 data"),
    ("half", "1.0", "Conversion of JSON Value: 1.0 to type: half"),
    ("complex", "1.0", "Conversion of JSON Value: 1.0 to type: complex64"),
]


@pytest.mark.parametrize(("kind", "sent", "words"), TYPE_FAULTS)
def test_values_of_other_types(server: ModelServerProcess, kind: str, sent: str, words: str) -> None:
    body = f'{{"signature_name": "{kind}", "inputs": {{"x": [{sent}]}}}}'
    answer = server.http.post(f"{TYPES}:predict", content=body)
    assert words in answer.json()["error"]
    assert answer.status_code == (501 if words.startswith("Conversion") else 400)


#: A body that cannot be parsed, what is wrong with it, and at which byte.
PARSE_FAULTS = [
    (b" \n", "The document is empty.", 2),
    (b"]", "The document is empty.", 0),
    (b",", "The document is empty.", 0),
    (b"nul", "Invalid value.", 3),
    (b"True", "Invalid value.", 0),
    (b"{'a': 1}", "Missing a name for object member.", 1),
    (b'{"a"', "Missing a colon after a name of object member.", 4),
    (b'{"a": }', "Invalid value.", 6),
    (b'{"a": 1', "Missing a comma or } after an object member.", 7),
    (b'{"a": 1 "b": 2}', "Missing a comma or } after an object member.", 8),
    (b'{"a": 1, }', "Missing a name for object member.", 9),
    (b'{"a": [1 2]}', "Missing a comma or ] after an array element.", 9),
    (b'{"a": [1', "Missing a comma or ] after an array element.", 8),
    (b'{"a": [', "Invalid value.", 7),
    (b'{"a": [,1]}', "Invalid value.", 7),
    (b'{"a": +1}', "Invalid value.", 6),
    (b'{"a": .5}', "Invalid value.", 6),
    (b'{"a": -}', "Invalid value.", 7),
    (b'{"a": 1.e5}', "Miss fraction part in number.", 8),
    (b'{"a": 1e}', "Miss exponent in number.", 8),
    (b'{"a": 1e309}', "Number too big to be stored in double.", 6),
    (b'{"a": -1e309}', "Number too big to be stored in double.", 6),
    (b'{"a": 0x10}', "Missing a comma or } after an object member.", 7),
    (b'{"a": "\\a"}', "Invalid escape character in string.", 7),
    (b'{"a": "\\u00zz"}', "Incorrect hex digit after \\u escape in string.", 7),
    (b'{"a": "\\ud800\\u0041"}', "The surrogate pair in string is invalid.", 7),
    (b'{"a": "\\udead"}', "The surrogate pair in string is invalid.", 7),
    (b'{"a": "\t"}', "Invalid encoding in string.", 7),
    (b'{"a": "', "Missing a closing quotation mark in string.", 7),
    (b'{"a": "\x00"}', "Missing a closing quotation mark in string.", 7),
    (b'{"a": Nan}', "Invalid value.", 8),
    (b'{"a": Infinite}', "Invalid value.", 13),
    (b'\xef\xbb\xbf{"a": x}', "Invalid value.", 9),
]


@pytest.mark.parametrize(("body", "words", "offset"), PARSE_FAULTS)
def test_what_cannot_be_parsed(server: ModelServerProcess, body: bytes, words: str, offset: int) -> None:
    for method in ("predict", "classify", "regress"):
        answer = server.http.post(f"{HALF}:{method}", content=body)
        assert answer.status_code == 400
        assert answer.json() == {"error": f"JSON Parse error: {words} at offset: {offset}"}


#: A method, a body and the whole answer.
WHOLE = [
    ("half:predict", '{"instances": [2.0, 3.0]}', '{\n    "predictions": [4.0, 4.5\n    ]\n}'),
    ("half:predict", '{"instances": [[2.0], [3.0]]}', '{\n    "predictions": [[4.0], [4.5]\n    ]\n}'),
    ("half:predict", '{"inputs": 2}', '{\n    "outputs": 4.0\n}'),
    ("half:predict", '{"inputs": [[2.0]]}', '{\n    "outputs": [\n        [\n            4.0\n        ]\n    ]\n}'),
    ("half:predict", '{"inputs": []}', '{\n    "outputs": []\n}'),
    ("half:predict", '{"inputs": [2]} and more', '{\n    "outputs": [\n        4.0\n    ]\n}'),
    ("half:predict", '{"inputs": [2], "inputs": [4]}', '{\n    "outputs": [\n        4.0\n    ]\n}'),
    ("half:predict", '{"inputs": {"x": [2], "x": ["a"]}}', '{\n    "outputs": [\n        4.0\n    ]\n}'),
    ("half:predict", '\ufeff {"inputs": [2]}', '{\n    "outputs": [\n        4.0\n    ]\n}'),
    ("types:predict", '{"signature_name": "string", "inputs": "hello"}', '{\n    "outputs": "hello"\n}'),
    ("types:predict", '{"signature_name": "string", "inputs": {"b64": "AA=="}}', '{\n    "outputs": "\\u0000"\n}'),
    ("types:predict", '{"signature_name": "scalar", "inputs": [1, 2]}', '{\n    "outputs": 3.0\n}'),
    (
        "types:predict",
        '{"signature_name": "float32", "instances": [[], []]}',
        '{\n    "predictions": [[], []\n    ]\n}',
    ),
    (
        "types:predict",
        '{"instances": [{"a": 1, "b": "x", "c": [1]}]}',
        '{\n    "predictions": [\n        {\n            "double": 2.0,\n            "image_bytes": {\n'
        '                "b64": "eA=="\n            },\n            "sum": 1,\n            "text": "x"\n        }\n    ]\n}',
    ),
    (
        "types:predict",
        '{"inputs": {"a": [1], "b": ["x"], "c": [[1]]}}',
        '{\n    "outputs": {\n        "double": [\n            2.0\n        ],\n        "image_bytes": [\n            {\n'
        '                "b64": "eA=="\n            }\n        ],\n        "sum": [\n            1\n        ],\n'
        '        "text": [\n            "x"\n        ]\n    }\n}',
    ),
    (
        "half:classify",
        '{"signature_name": "classify_with_labels", "examples": [{"x": 1.0}, {"x": 2.0}]}',
        '{\n    "results": [[["half", 3.5]], [["half", 4.0]]\n    ]\n}',
    ),
    (
        "half:classify",
        '{"signature_name": "classify_x_to_y", "examples": [{"x": 1.0}]}',
        '{\n    "results": [[["", 3.5]]\n    ]\n}',
    ),
    (
        "half:classify",
        '{"signature_name": "classify_labels_only", "examples": [{"x": 1.0}]}',
        '{\n    "results": [[["half", 0.0]]\n    ]\n}',
    ),
    (
        "half:regress",
        '{"signature_name": "regress_x_to_y", "examples": [{"x": 1.0}, {"x": [2.0]}]}',
        '{\n    "results": [3.5, 4.0]\n}',
    ),
    (
        "half:regress",
        '{"signature_name": "regress_x_to_y", "examples": [{"x": 1e39}, {"x": -1e300}, {"x": NaN}, {"x": -Inf}]}',
        '{\n    "results": [Infinity, -Infinity, NaN, -Infinity]\n}',
    ),
    (
        "half:regress",
        '{"signature_name": "regress_x_to_y", "examples": [{"x": 1.0, "x": 2.0}]}',
        '{\n    "results": [4.0]\n}',
    ),
    (
        "half:regress",
        '{"signature_name": "regress_x_to_y2", "context": {"x": 0.0, "x2": 2.0}, "examples": [{}, {"x2": 4.0}]}',
        '{\n    "results": [4.0, 5.0]\n}',
    ),
]


@pytest.mark.parametrize(("address", "body", "expected"), WHOLE)
def test_whole_answers(server: ModelServerProcess, address: str, body: str, expected: str) -> None:
    answer = server.http.post(f"/v1/models/{address}", content=body.encode())
    assert (answer.text, answer.status_code) == (expected, 200)


#: A body for `half`, and the whole `error`.
REFUSALS = [
    ("[]", "JSON Value: [] Is not object"),
    ("7", "JSON Value: 7 Is not object"),
    ('"a"', 'JSON Value: "a" Is not object'),
    ("[1, [2.5, null]]", "JSON Value: [1, [2.5, null]] Is not object"),
    ("{}", "Missing 'inputs' or 'instances' key"),
    ('{"instances": null}', "JSON Value: {\n    \"instances\": null\n} Expecting 'instances' to be an list/array"),
    ('{"instances": []}', "JSON Value: {\n    \"instances\": []\n} No values in 'instances' array"),
    (
        '{"signature_name": ["a"]}',
        'JSON Value: {\n    "signature_name": ["a"]\n} not formatted correctly. \'signature_name\' key must be a string '
        "value.",
    ),
    (
        '{"instances": [1], "inputs": [1]}',
        'JSON Value: {\n    "instances": [1],\n    "inputs": [1]\n} Not formatted correctly expecting only one of '
        "'inputs' or 'instances' keys to exist ",
    ),
    ('{"signature_name": "no"}', 'Serving signature name: "no" not found in signature def'),
    ('{"inputs": {"y": [1]}}', "Missing named input: x in 'inputs' object."),
    (
        '{"instances": [{"y": 1}]}',
        "Failed to process element: 0 key: y of 'instances' list. Error: INVALID_ARGUMENT: JSON object: does not have "
        "named input: y",
    ),
    (
        '{"instances": [{"x": 1}, {}]}',
        "Failed to process element: 1 of 'instances' list. JSON object: {} keys must be equal to: x",
    ),
    (
        '{"instances": [[1], 2]}',
        "Failed to process element: 1 of 'instances' list. Error: INVALID_ARGUMENT: Expecting shape [1] but got: []",
    ),
    (
        '{"instances": [1, [2, 3]]}',
        "Failed to process element: 1 of 'instances' list. Error: INVALID_ARGUMENT: Expecting tensor size: 1 but got: 2",
    ),
    ('{"instances": [1, {"y": 2}]}', "Expecting value/list but got object at item 1 of input list"),
    ('{"instances": [{"x": 1}, [2]]}', "Expecting object but got list at item 1 of input list"),
    ('{"inputs": [[1], 2]}', "JSON Value: 2 found at incorrect level: 2 in the JSON DOM. Expected at level: 2"),
    ('{"inputs": [[1], [2, 3]]}', "Encountered list at unexpected size: 2 at level: 1 expected size: 1"),
    ('{"inputs": [1, [2]]}', "Encountered list at unexpected level: 1 expected < 1"),
]


@pytest.mark.parametrize(("body", "words"), REFUSALS)
def test_whole_refusals(server: ModelServerProcess, body: str, words: str) -> None:
    answer = server.http.post(f"{HALF}:predict", content=body)
    assert (answer.json(), answer.status_code) == ({"error": words}, 400)
    assert answer.text.startswith('{\n    "error": "')
    assert answer.text.endswith('"\n}')


#: A method, an address and the status; the words where the answer has some.
ADDRESSES = [
    ("GET", "/v1/models/half", 200, ""),
    ("GET", "/V1/Models/half", 200, ""),
    ("GET", "/v1/models/half/versions/0123", 200, ""),
    ("GET", "/v1/models/half/labels/stable", 200, ""),
    ("GET", "/v1/models/ha%6Cf/metadata", 200, ""),
    ("GET", "/v1/models/half/METADATA", 200, ""),
    ("GET", "/v1/models/half/labels/nowhere", 200, ""),
    ("GET", "/v1/models/half/versions/9", 404, "Could not find version 9 of model half"),
    ("GET", "/v1/models/half/versions/9223372036854775808", 400, "Failed to convert version: 9223372036854775808 to numeric."),
    ("GET", "/v1/models/half/versions/-1", 400, "Malformed request: GET /v1/models/half/versions/-1"),
    ("GET", "/v1/models/", 400, "Malformed request: GET /v1/models/"),
    ("GET", "/v1/models/half/", 400, "Malformed request: GET /v1/models/half/"),
    ("GET", "/v1/models/half/metadata/x", 400, "Malformed request: GET /v1/models/half/metadata/x"),
    ("GET", "/v1/models/metadata", 404, "Could not find any versions of model metadata"),
    ("POST", "/v1/models/half:Predict", 400, "Malformed request: POST /v1/models/half:Predict"),
    ("POST", "/v1/models/half:PREDICT", 400, "Malformed request: POST /v1/models/half:PREDICT"),
    ("POST", "/v1/models/half:predict:predict", 400, "Malformed request: POST /v1/models/half:predict:predict"),
    ("POST", "/v1/models/:predict", 400, "Malformed request: POST /v1/models/:predict"),
    ("POST", "/v1/models/half/labels/:predict", 400, "Malformed request: POST /v1/models/half/labels/:predict"),
    ("POST", "/v1/models/half/versions/:predict", 400, "Malformed request: POST /v1/models/half/versions/:predict"),
    ("PATCH", "/v1/models/half", 400, "Malformed request: PATCH /v1/models/half"),
    ("DELETE", "/v1/models/half:predict", 400, "Malformed request: DELETE /v1/models/half:predict"),
    ("GET", "/v1/", 400, "Malformed request: GET /v1/"),
    ("GET", "/v1", 404, None),
    ("GET", "/v2/models/half", 404, None),
    ("POST", "/monitoring", 404, None),
    ("OPTIONS", "/", 404, None),
]  # fmt: skip


@pytest.mark.parametrize(("method", "address", "status", "words"), ADDRESSES)
def test_addresses(server: ModelServerProcess, method: str, address: str, status: int, words: str | None) -> None:
    answer = server.http.request(method, address)
    assert answer.status_code == status
    if words is None:
        assert answer.headers["content-type"].startswith("text/html")
    else:
        assert answer.headers["content-type"] == "application/json"
        assert answer.json().get("error", "") == words


@pytest.mark.parametrize(
    ("address", "headers", "status"),
    [
        ("/v1/models/half:predict", {"origin": "https://page.example"}, 200),
        ("/v1/models/half", {"origin": "http://localhost:3000"}, 200),
        ("/v1/anything", {"origin": "see http://x"}, 200),
        ("/v1/models/half:predict", {}, 400),
        ("/v1/models/half:predict", {"origin": "null"}, 400),
        ("/v1/models/half:predict", {"origin": "ftp://x"}, 400),
    ],
)
def test_preflights(server: ModelServerProcess, address: str, headers: dict[str, str], status: int) -> None:
    answer = server.http.options(address, headers=headers)
    assert (answer.status_code, answer.content) == (status, b"")
    assert "content-type" not in answer.headers
    assert answer.headers["access-control-allow-origin"] == "*"


def test_the_layout_of_status_and_metadata(server: ModelServerProcess) -> None:
    assert server.http.get(f"{HALF}/versions/123").text == (
        '{\n "model_version_status": [\n  {\n   "version": "123",\n   "state": "AVAILABLE",\n   "status": {\n'
        '    "error_code": "OK",\n    "error_message": ""\n   }\n  }\n ]\n}\n'
    )
    metadata = server.http.get(f"{HALF}/metadata").text
    assert metadata.startswith(
        '{\n"model_spec":{\n "name": "half",\n "signature_name": "",\n "version": "124"\n}\n,\n"metadata": '
        '{"signature_def": {\n "signature_def": {\n  "'
    )
    assert metadata.endswith("}\n}\n}\n")
