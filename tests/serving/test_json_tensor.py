"""The JSON forms: what is accepted, what is refused and in which words, what is answered."""

from __future__ import annotations

import json
import math
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adclick.serving.errors import InvalidArgumentError, ServingError
from adclick.serving.model_server.json_answer import json_from_tensors
from adclick.serving.model_server.json_document import parse_request
from adclick.serving.model_server.json_examples import input_from_json
from adclick.serving.model_server.json_tensor import Format, signature_name, tensors_from_json

ONE = {"x": "float32"}
TWO = {"age": "float32", "site": "string"}


def read(text: str | bytes, inputs: dict[str, str]) -> tuple[Format, dict[str, np.ndarray[Any, Any]]]:
    return tensors_from_json(parse_request(text.encode() if isinstance(text, str) else text), inputs)


def tensors(text: str | bytes, inputs: dict[str, str]) -> dict[str, Any]:
    return {name: array.tolist() for name, array in read(text, inputs)[1].items()}


@pytest.mark.parametrize(
    ("text", "inputs", "expected"),
    [
        ('{"instances": [1.5, 2]}', ONE, {"x": [1.5, 2.0]}),
        ('{"instances": [[1, 2], [3, 4]]}', ONE, {"x": [[1.0, 2.0], [3.0, 4.0]]}),
        ('{"instances": [{"x": 1.5}, {"x": 2}]}', ONE, {"x": [1.5, 2.0]}),
        ('{"instances": [{"x": []}, {"x": []}]}', ONE, {"x": [[], []]}),
        ('{"instances": [{"site": "a", "age": 1}, {"age": 2, "site": "é"}]}', TWO, None),
        ('{"instances": [{"b64": "AP8="}, "text"]}', {"s": "string"}, {"s": [b"\x00\xff", b"text"]}),
        ('{"instances": [{"b64": "AP8"}]}', {"s": "string"}, {"s": [b"\x00\xff"]}),
        ('{"instances": [{"s": ["a", {"b64": "Yg=="}]}]}', {"s": "string"}, {"s": [[b"a", b"b"]]}),
        ('{"instances": [-9223372036854775808]}', {"n": "int64"}, {"n": [-(2**63)]}),
        ('{"instances": [18446744073709551615]}', {"n": "uint64"}, {"n": [2**64 - 1]}),
        ('{"instances": [300, -1]}', {"n": "uint8"}, {"n": [44, 255]}),
        ('{"instances": [true, false]}', {"b": "bool"}, {"b": [True, False]}),
        ('{"instances": [16777217.0]}', ONE, {"x": [16777216.0]}),
        ('{"instances": [16777217]}', {"x": "float64"}, {"x": [16777217.0]}),
        ('{"instances": [1180591620717411303424]}', ONE, {"x": [2.0**70]}),
        ('{"instances": [1180591620717411303424, Infinity]}', ONE, {"x": [2.0**70, math.inf]}),
        ('{"instances": [16777217, 1435774380]}', ONE, {"x": [16777216.0, 1435774336.0]}),
        ('{"instances": [9007199254740993]}', {"x": "float64"}, {"x": [9007199254740992.0]}),
        ('{"instances": [1e39, -1.7976931348623157e308, 1e-60]}', ONE, {"x": [math.inf, -math.inf, 0.0]}),
        ('{"inputs": [Inf, -Inf]}', ONE, {"x": [math.inf, -math.inf]}),
        (b'\xef\xbb\xbf {"inputs": [1]}', ONE, {"x": [1.0]}),
        ('{"inputs": [1], "inputs": [2]}', ONE, {"x": [1.0]}),
        ('{"inputs": {"x": [1], "x": ["no number"]}}', ONE, {"x": [1.0]}),
        ('{"inputs": [1]} {}', ONE, {"x": [1.0]}),
        ('{"inputs": ["Inf, -Inf", "a\\"-NaN"]}', {"s": "string"}, {"s": [b"Inf, -Inf", b'a"-NaN']}),
        ('{"inputs": 3}', ONE, {"x": 3.0}),
        ('{"inputs": [1, 2]}', ONE, {"x": [1.0, 2.0]}),
        ('{"inputs": []}', ONE, {"x": []}),
        ('{"inputs": {"x": [[1], [2]]}}', ONE, {"x": [[1.0], [2.0]]}),
        ('{"inputs": {"b64": "YQ=="}}', {"s": "string"}, {"s": b"a"}),
        ('{"inputs": {"age": [1], "site": ["a"], "unknown": {"is": "ignored"}}}', TWO, {"age": [1.0], "site": [b"a"]}),
        (b'{"instances": ["\xff"]}', {"s": "string"}, {"s": [b"\xff"]}),
    ],
)
def test_accepts(text: str | bytes, inputs: dict[str, str], expected: dict[str, Any] | None) -> None:
    assert tensors(text, inputs) == (expected or {"age": [1.0, 2.0], "site": [b"a", "é".encode()]})


def test_takes_the_tokens_that_are_not_json() -> None:
    values = tensors('{"instances": [NaN, Infinity, -Infinity, 0.1]}', ONE)["x"]
    assert math.isnan(values[0])
    assert values[1:] == [math.inf, -math.inf, float(np.float32(0.1))]


def test_gives_each_input_its_own_type() -> None:
    inputs = {"a": "float32", "b": "int64", "c": "string", "d": "float64", "e": "int32"}
    _, arrays = read('{"instances": [{"a": 1, "b": 2, "c": "x", "d": 3, "e": 4}]}', inputs)
    assert {name: array.dtype.name for name, array in arrays.items()} == {**inputs, "c": "object"}


@pytest.mark.parametrize(
    ("text", "inputs", "message"),
    [
        ("", ONE, "JSON Parse error: The document is empty"),
        ("instances = [1, 2]", ONE, "JSON Parse error: Invalid value. at offset: 0"),
        ('{"instances": [1 2]}', ONE, "JSON Parse error: Missing a comma or ] after an array element. at offset: 17"),
        (
            '{"instances": [1] "x": 1}',
            ONE,
            "JSON Parse error: Missing a comma or } after an object member. at offset: ",
        ),
        ('{"instances" [1]}', ONE, "JSON Parse error: Missing a colon after a name of object member. at offset: "),
        ('{"instances": ["a]}', ONE, "JSON Parse error: Missing a closing quotation mark in string. at offset: "),
        ('{"instances": [1e999]}', ONE, "JSON Parse error: Number too big to be stored in double."),
        ("[1]", ONE, "JSON Value: [1] Is not object"),
        ("{}", ONE, "Missing 'inputs' or 'instances' key"),
        ('{"instances": 1}', ONE, "Expecting 'instances' to be an list/array"),
        ('{"instances": []}', ONE, "No values in 'instances' array"),
        (
            '{"instances": [1], "inputs": [1]}',
            ONE,
            "Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist ",
        ),
        (
            '{"instances": [1]}',
            TWO,
            "instances is a plain list, but expecting list of objects as multiple input tensors required as per "
            "tensorinfo_map",
        ),
        (
            '{"inputs": [1]}',
            TWO,
            "inputs is a plain value/list, but expecting an object as multiple input tensors required as per "
            "tensorinfo_map",
        ),
        ('{"inputs": {"age": [1]}}', TWO, "Missing named input: site in 'inputs' object."),
        (
            '{"instances": ["a"]}',
            ONE,
            "Failed to process element: 0 of 'instances' list. Error: INVALID_ARGUMENT: "
            'JSON Value: "a" Type: String is not of expected type: float',
        ),
        ('{"instances": [true]}', ONE, "JSON Value: true Type: True is not of expected type: float"),
        ('{"instances": [null]}', ONE, "JSON Value: null Type: Null is not of expected type: float"),
        ('{"instances": [1.0]}', {"n": "int64"}, "JSON Value: 1.0 Type: Number is not of expected type: int64"),
        ('{"instances": [2147483648]}', {"n": "int32"}, "is not of expected type: int32"),
        ('{"instances": [9223372036854775808]}', {"n": "int64"}, "is not of expected type: int64"),
        (
            '{"instances": [{"age": 1, "site": "a", "extra": 1}]}',
            TWO,
            "Failed to process element: 0 key: extra of 'instances' list. Error: INVALID_ARGUMENT: "
            "JSON object: does not have named input: extra",
        ),
        (
            '{"instances": [{"age": 1, "site": "a"}, {"age": 1}]}',
            TWO,
            "Failed to process element: 1 of 'instances' list. JSON object: {\n    \"age\": 1\n} "
            "keys must be equal to: age,site",
        ),
        (
            '{"instances": [{"age": 1, "site": "a"}, {"age": "x", "site": "a"}]}',
            TWO,
            "Failed to process element: 1 key: age of 'instances' list. Error: INVALID_ARGUMENT: "
            'JSON Value: "x" Type: String is not of expected type: float',
        ),
        ('{"instances": [{"x": 1}, 2]}', ONE, "Expecting object but got list at item 1 of input list"),
        ('{"instances": [1, {"x": 1}]}', ONE, "Expecting value/list but got object at item 1 of input list"),
        ('{"instances": [[1, 2], [1]]}', ONE, "Expecting tensor size: 2 but got: 1"),
        ('{"instances": [[[1, 2]], [[1], [2]]]}', ONE, "Expecting shape [1,2] but got: [2,1]"),
        (
            '{"inputs": [[1, 2], [3]]}',
            ONE,
            "Encountered list at unexpected size: 1 at level: 1 expected size: 2",
        ),
        ('{"inputs": [1, [2]]}', ONE, "Encountered list at unexpected level: 1 expected < 1"),
        (
            '{"inputs": [[1], 2]}',
            ONE,
            "JSON Value: 2 found at incorrect level: 2 in the JSON DOM. Expected at level: 2",
        ),
        ('{"inputs": {"s": {"b65": "YQ=="}}}', {"s": "string"}, "not formatted correctly for base64 data"),
        ('{"inputs": {"b64": "?"}}', {"s": "string"}, "Unable to base64 decode"),
        ('{"inputs": {"x": {"b64": "YQ=="}}}', ONE, "Type: Object is not of expected type: float"),
        ('{"inputs": ["\\ud800"]}', {"s": "string"}, "The surrogate pair in string is invalid."),
        ('{"inputs": [1]}', {"h": "float16"}, "Conversion of JSON Value: 1 to type: half"),
        ('{"inputs": ' + "[" * 500 + "1" + "]" * 500 + "}", ONE, "Encountered list at unexpected level: 500"),
        ('{"instances": ' + "[" * 100_000, ONE, "JSON Parse error: "),
    ],
)
def test_refuses(text: str, inputs: dict[str, str], message: str) -> None:
    with pytest.raises(ServingError) as refusal:
        read(text, inputs)
    assert message in refusal.value.message


def test_reads_the_signature_name() -> None:
    assert signature_name(parse_request(b'{"signature_name": "score"}')) == "score"
    assert signature_name({}) == ""
    with pytest.raises(InvalidArgumentError, match="'signature_name' key must be a string value"):
        signature_name({"signature_name": 100})


_VALUES = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**65), 2**65),
        st.floats(width=64),
        st.text(st.characters(codec="utf-8"), max_size=3),
        st.just({"b64": "YQ=="}),
        st.just({"b64": "?"}),
    ),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=6,
)


@given(rows=st.lists(_VALUES, min_size=1, max_size=4), dtype=st.sampled_from(["float32", "int64", "string", "bool"]))
def test_rows_and_columns_agree(rows: list[Any], dtype: str) -> None:
    """A list of rows is the same tensor as the column that holds them; neither form accepts what the other refuses."""
    answers = []
    for key in ("instances", "inputs"):
        for value in (rows, [{"x": row} for row in rows] if key == "instances" else {"x": rows}):
            try:
                _, arrays = read(json.dumps({key: value}), {"x": dtype})
                answers.append(repr(arrays["x"].tolist()))
            except ServingError:
                answers.append("refused")
    assert len(set(answers)) == 1


def float32(*values: float) -> np.ndarray[Any, Any]:
    return np.array(values, np.float32)


def strings(*values: bytes) -> np.ndarray[Any, Any]:
    return np.array(values, object)


@pytest.mark.parametrize(
    ("outputs", "form", "expected"),
    [
        ({"y": float32(0.1, 3, 1e30)}, Format.ROW, '{"predictions": [0.1, 3.0, 1e+30]}'),
        ({"y": float32(0.1)}, Format.COLUMNAR, '{"outputs": [0.1]}'),
        ({"y": np.array(0.1, np.float32)}, Format.COLUMNAR, '{"outputs": 0.1}'),
        ({"y": np.array(b"hello", object)}, Format.COLUMNAR, '{"outputs": "hello"}'),
        ({"y_bytes": np.array(b"hello", object)}, Format.COLUMNAR, '{"outputs": {"b64": "aGVsbG8="}}'),
        ({"y": float32()}, Format.ROW, '{"predictions": []}'),
        ({"a": float32(), "b": np.zeros((0, 3))}, Format.ROW, '{"predictions": []}'),
        ({"y": float32()}, Format.COLUMNAR, '{"outputs": []}'),
        (
            {"y": float32(0.1, math.nan, math.inf, -math.inf)},
            Format.ROW,
            '{"predictions": [0.1, NaN, Infinity, -Infinity]}',
        ),
        ({"y": np.array([[1, 2]], np.int64)}, Format.ROW, '{"predictions": [[1, 2]]}'),
        ({"y": np.zeros((2, 0), np.float32)}, Format.ROW, '{"predictions": [[], []]}'),
        ({"y": np.array([True])}, Format.ROW, '{"predictions": [true]}'),
        ({"y": np.array([0.1], np.float64)}, Format.ROW, '{"predictions": [0.1]}'),
        ({"y": strings(b"a", b"\xff")}, Format.ROW, '{"predictions": ["a", "\ufffd"]}'),
        ({"y_bytes": strings(b"\x00\xff")}, Format.ROW, '{"predictions": [{"b64": "AP8="}]}'),
        (
            {"a": float32(0.1, 2), "b": np.array([[1], [2]], np.int8), "c": np.array([True, False])},
            Format.ROW,
            '{"predictions": [{"a": 0.1, "b": [1], "c": true}, {"a": 2.0, "b": [2], "c": false}]}',
        ),
        (
            {"a": float32(math.nan, 0.1), "b": strings(b"x", b"y")},
            Format.ROW,
            '{"predictions": [{"a": NaN, "b": "x"}, {"a": 0.1, "b": "y"}]}',
        ),
        ({"a": float32(1), "b": np.array(2)}, Format.COLUMNAR, '{"outputs": {"a": [1.0], "b": 2}}'),
        (
            {"y": float32(*range(6)).reshape(2, 3).T},
            Format.ROW,
            '{"predictions": [[0.0, 3.0], [1.0, 4.0], [2.0, 5.0]]}',
        ),
    ],
)
def test_writes(outputs: dict[str, np.ndarray[Any, Any]], form: Format, expected: str) -> None:
    written = json_from_tensors(outputs, form).decode()
    assert _values_of(written) == _values_of(expected)


def _values_of(text: str) -> list[str]:
    """The tokens of a document: what it says, whatever its layout."""
    return re.findall(r'"(?:[^"\\]|\\.)*"|[^\s,:\[\]{}]+|[\[\]{}:,]', text)


@pytest.mark.parametrize(
    ("values", "digits"),
    [
        (float32(1435774336), "1.43577434e+09"),
        (float32(16777216), "16777216.0"),
        (float32(1e9), "1e+09"),
        (float32(1e-7), "1e-07"),
        (float32(0.3), "0.3"),
        (float32(0.12345678), "0.123456784"),
        (float32(-0.0), "-0.0"),
        (np.array([1 / 3]), "0.33333333333333331"),
        (np.array([123456.0]), "123456.0"),
        (np.array([1234567.0]), "1234567.0"),
    ],
)
def test_six_digits_where_they_suffice_and_else_as_many_as_may_be_needed(
    values: np.ndarray[Any, Any], digits: str
) -> None:
    assert json_from_tensors({"y": values}, Format.ROW) == f'{{\n    "predictions": [{digits}\n    ]\n}}'.encode()


@given(values=st.lists(st.floats(width=32), min_size=1, max_size=8), width=st.sampled_from(["float32", "float64"]))
def test_written_numbers_read_back_as_they_were(values: list[float], width: str) -> None:
    array = np.array(values, width)
    document = parse_request(json_from_tensors({"y": array}, Format.ROW))
    np.testing.assert_array_equal(np.array(document["predictions"], width), array)


def test_the_layout_of_rows_and_columns() -> None:
    outputs = {"y": float32(1, 2, 3, 4).reshape(2, 2), "z_bytes": strings(b"a", b"b")}
    assert json_from_tensors({"y": outputs["y"]}, Format.ROW) == (
        b'{\n    "predictions": [[1.0, 2.0], [3.0, 4.0]\n    ]\n}'
    )
    assert json_from_tensors({"y": outputs["y"]}, Format.COLUMNAR).splitlines() == [
        b"{",
        b'    "outputs": [',
        b"        [",
        b"            1.0,",
        b"            2.0",
        b"        ],",
        b"        [",
        b"            3.0,",
        b"            4.0",
        b"        ]",
        b"    ]",
        b"}",
    ]
    assert json_from_tensors(outputs, Format.ROW).splitlines()[1:9] == [
        b'    "predictions": [',
        b"        {",
        b'            "y": [1.0, 2.0],',
        b'            "z_bytes": {',
        b'                "b64": "YQ=="',
        b"            }",
        b"        },",
        b"        {",
    ]


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        ({}, "Cannot convert empty tensor map to JSON"),
        ({"y": np.array(1.0)}, "Tensor name: y has no shape information "),
        ({"a": float32(1), "b": float32(1, 2)}, "Tensor name: b has inconsistent batch size: 2 expecting: 1"),
        ({"y": np.array([0.1], np.float16)}, "Failed to write JSON value for tensor type: half"),
        ({"y": np.array([1j])}, "Failed to write JSON value for tensor type: complex128"),
    ],
)
def test_refuses_to_write(outputs: dict[str, np.ndarray[Any, Any]], message: str) -> None:
    with pytest.raises(InvalidArgumentError) as refusal:
        json_from_tensors(outputs, Format.ROW)
    assert refusal.value.message == message


@pytest.mark.parametrize("digits", ["9" * 310, "-" + "9" * 309, "9" * 5_000, "1" + "0" * 100_000])
def test_an_integer_that_no_number_holds_is_refused(digits: str) -> None:
    with pytest.raises(InvalidArgumentError, match="Number too big to be stored in double"):
        parse_request(f'{{"instances": [{digits}]}}'.encode())


def test_an_integer_that_a_double_holds_is_read() -> None:
    document = parse_request(f'{{"instances": [{"9" * 300}, -{"9" * 300}]}}'.encode())
    assert document["instances"] == [1e300, -1e300]


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        (b"   ", "The document is empty. at offset: 3"),
        (b"}", "The document is empty. at offset: 0"),
        (b'{"a": tru}', "Invalid value. at offset: 9"),
        (b'{"a": [1,]}', "Invalid value. at offset: 9"),
        (b'{"a": 1,}', "Missing a name for object member. at offset: 8"),
        (b"{a: 1}", "Missing a name for object member. at offset: 1"),
        (b'{"a": 01}', "Missing a comma or } after an object member. at offset: 7"),
        (b'{"a": 1.}', "Miss fraction part in number. at offset: 8"),
        (b'{"a": 1e+}', "Miss exponent in number. at offset: 9"),
        (b'{"a": 1e400}', "Number too big to be stored in double. at offset: 6"),
        (b'{"a": "\\x"}', "Invalid escape character in string. at offset: 7"),
        (b'{"a": "\\u12g4"}', "Incorrect hex digit after \\u escape in string. at offset: 7"),
        (b'{"a": "\\udc00"}', "The surrogate pair in string is invalid. at offset: 7"),
        (b'{"a": "\\ud800x"}', "The surrogate pair in string is invalid. at offset: 7"),
        (b'{"a": "x\ny"}', "Invalid encoding in string. at offset: 8"),
        (b'{"a": "x', "Missing a closing quotation mark in string. at offset: 8"),
        (b'{"a": Infi}', "Invalid value. at offset: 10"),
        (b'{"a":', "Invalid value. at offset: 5"),
        (b'\xef\xbb\xbf{"a" 1}', "Missing a colon after a name of object member. at offset: 8"),
    ],
)
def test_faults_have_the_words_and_offsets_of_the_parser(body: bytes, fault: str) -> None:
    with pytest.raises(InvalidArgumentError) as refusal:
        parse_request(body)
    assert refusal.value.message == f"JSON Parse error: {fault}"


def test_messages_show_the_beginning_of_a_long_value() -> None:
    with pytest.raises(InvalidArgumentError) as refusal:
        tensors_from_json({"inputs": ["x" * 300], "a": [1, 2.5], "b": [None] * 1_000, "instances": 1}, ONE)
    shown = refusal.value.message.removeprefix("JSON Value: ")
    assert shown.startswith('{\n    "inputs": ["' + "x" * 300 + '"')
    assert len(shown) < 450


def test_of_a_doubled_feature_the_last_counts() -> None:
    message = input_from_json(parse_request(b'{"examples": [{"x": 1.5, "x": 2.5}]}'))
    assert message.example_list.examples[0].features.feature["x"].float_list.value == [2.5]


def test_a_feature_beyond_float32_becomes_infinity() -> None:
    message = input_from_json(parse_request(b'{"examples": [{"x": [1e39, -1e300, 3.4028235e38, NaN]}]}'))
    values = list(message.example_list.examples[0].features.feature["x"].float_list.value)
    assert values[:2] == [math.inf, -math.inf]
    assert math.isfinite(values[2])
    assert math.isnan(values[3])


def test_a_feature_whose_name_is_no_text_is_refused() -> None:
    document = parse_request(b'{"examples": [{"a\xff": 1}]}')
    with pytest.raises(InvalidArgumentError, match="Invalid encoding in string"):
        input_from_json(document)
    assert input_from_json(parse_request('{"examples": [{"prix é": 1}]}'.encode()))
