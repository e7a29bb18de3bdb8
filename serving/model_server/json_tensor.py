"""TensorFlow Serving's JSON forms of a predict request and its answer.

Rows: `{"instances": [...]}` is answered by `{"predictions": [...]}`. Columns: `{"inputs": ...}` is answered by
`{"outputs": ...}`. What is accepted, what is refused and in which words follow TensorFlow Serving.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
from collections.abc import Mapping
from enum import Enum
from typing import Any

import numpy as np
import orjson

from serving.errors import InvalidArgumentError, ServingError, UnimplementedError

# A JSON value as Python reads it. Its lists nest to any depth.
Json = Any
Array = np.ndarray[Any, Any]


class Format(Enum):
    """The form of a request, which is also that of its answer."""

    ROW = "row"
    COLUMNAR = "columnar"


# TensorFlow's own names of types, by NumPy's: the ones with which error messages speak.
_TYPE_NAMES = {"float16": "half", "float32": "float", "float64": "double"}
_INTEGER_RANGES = {
    "int8": (-(2**31), 2**31 - 1),  # Narrow integers are read as 32-bit ones and wrap, as in TensorFlow Serving.
    "int16": (-(2**31), 2**31 - 1),
    "uint8": (-(2**31), 2**31 - 1),
    "int32": (-(2**31), 2**31 - 1),
    "int64": (-(2**63), 2**63 - 1),
    "uint32": (0, 2**32 - 1),
    "uint64": (0, 2**64 - 1),
}
# The largest integer up to which a type holds every integer.
_EXACT_INTEGERS = {"float32": 2**24 - 1, "float64": 2**53 - 1}
_MOST_DIMENSIONS = 32
_LARGEST = {name: float(np.finfo(name).max) for name in _EXACT_INTEGERS}
_WRITABLE = {"float16", "float32", "float64", "bool", *_INTEGER_RANGES}


# Reading a request.


def parse_request(body: bytes) -> dict[str, Json]:
    """Parses the body of a request; besides JSON it may hold NaN, Infinity and -Infinity.

    Raises:
        InvalidArgumentError: It is not JSON, or not an object.
    """
    if not body:
        raise InvalidArgumentError("JSON Parse error: The document is empty")
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        document = _parse_leniently(body)
    if not isinstance(document, dict):
        raise format_error(document, "Is not object")
    return document


def signature_name(document: Mapping[str, Json]) -> str:
    """The name of the signature that a request asks for; empty if it names none.

    Raises:
        InvalidArgumentError: The name is not a string.
    """
    name = document.get("signature_name", "")
    if not isinstance(name, str):
        raise InvalidArgumentError(
            f"JSON Value: {_text(document)} not formatted correctly. 'signature_name' key must be a string value."
        )
    return name


def tensors_from_json(document: Mapping[str, Json], inputs: Mapping[str, str]) -> tuple[Format, dict[str, Array]]:
    """Reads the tensors of a request.

    Args:
        document: The request.
        inputs: The type of each input of the signature, by TensorFlow's name of it: float32, string, int64.

    Returns:
        The form of the request, and an array for each input; strings as object arrays of bytes.

    Raises:
        InvalidArgumentError: The request does not fit the inputs.
        UnimplementedError: An input is of a type that JSON cannot carry.
    """
    if "instances" in document and "inputs" in document:
        raise format_error(
            document, "Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist "
        )
    if "instances" in document:
        instances = document["instances"]
        if not isinstance(instances, list):
            raise format_error(document, "Excepting 'instances' to be an list/array")
        if not instances:
            raise format_error(document, "No values in 'instances' array")
        return Format.ROW, _tensors_from_rows(instances, inputs)
    if "inputs" in document:
        return Format.COLUMNAR, _tensors_from_columns(document["inputs"], inputs)
    raise InvalidArgumentError("Missing 'inputs' or 'instances' key")


def _tensors_from_rows(rows: list[Json], inputs: Mapping[str, str]) -> dict[str, Array]:
    if not isinstance(rows[0], dict) and len(inputs) > 1:
        raise InvalidArgumentError(
            "instances is a plain list, but expecting list of objects as multiple input tensors required as per "
            "tensorinfo_map"
        )
    if not _is_named(rows[0]):
        name = min(inputs)
        fast = _fast_tensor(rows, inputs[name])
        return {name: fast} if fast is not None else _tensors_from_plain_rows(rows, name, inputs[name])
    if all(type(row) is dict and row.keys() == inputs.keys() for row in rows):
        tensors = {name: _fast_tensor([row[name] for row in rows], dtype) for name, dtype in inputs.items()}
        whole = {name: tensor for name, tensor in tensors.items() if tensor is not None}
        if len(whole) == len(inputs):
            return whole
    return _tensors_from_named_rows(rows, inputs)


def _tensors_from_plain_rows(rows: list[Json], name: str, dtype: str) -> dict[str, Array]:
    column = _Column(name, dtype)
    for index, row in enumerate(rows):
        if _is_named(row):
            raise InvalidArgumentError(f"Expecting value/list but got object at item {index} of input list")
        try:
            column.append(row)
        except ServingError as error:
            raise InvalidArgumentError(
                f"Failed to process element: {index} of 'instances' list. Error: {error.described()}"
            ) from None
    return {name: column.tensor()}


def _tensors_from_named_rows(rows: list[Json], inputs: Mapping[str, str]) -> dict[str, Array]:
    columns = {name: _Column(name, dtype) for name, dtype in inputs.items()}
    for index, row in enumerate(rows):
        if not _is_named(row):
            raise InvalidArgumentError(f"Expecting object but got list at item {index} of input list")
        for name, value in row.items():
            try:
                if name not in columns:
                    raise InvalidArgumentError(f"JSON object: does not have named input: {name}")
                columns[name].append(value)
            except ServingError as error:
                raise InvalidArgumentError(
                    f"Failed to process element: {index} key: {name} of 'instances' list. Error: {error.described()}"
                ) from None
        if row.keys() != inputs.keys():
            raise InvalidArgumentError(
                f"Failed to process element: {index} of 'instances' list. JSON object: {_text(row)} "
                f"keys must be equal to: {','.join(sorted(inputs))}"
            )
    return {name: column.tensor() for name, column in columns.items()}


def _tensors_from_columns(columns: Json, inputs: Mapping[str, str]) -> dict[str, Array]:
    if not _is_named(columns):
        if len(inputs) > 1:
            raise InvalidArgumentError(
                "inputs is a plain value/list, but expecting an object as multiple input tensors required as per "
                "tensorinfo_map"
            )
        return {name: _tensor(columns, dtype) for name, dtype in inputs.items()}
    tensors = {}
    for name, dtype in inputs.items():
        if name not in columns:
            raise InvalidArgumentError(f"Missing named input: {name} in 'inputs' object.")
        tensors[name] = _tensor(columns[name], dtype)
    return tensors


class _Column:
    """The values of one input, gathered row by row; every row's must have the first one's shape."""

    def __init__(self, name: str, dtype: str) -> None:
        self._dtype = dtype
        self._values: list[Any] = []
        self._rows = 0
        self._shape: tuple[int, ...] = ()

    def append(self, value: Json) -> None:
        shape = _shape(value)
        values: list[Any] = []
        _fill(value, 0, shape, self._dtype, values)
        if self._rows and shape != self._shape:
            size, expected = math.prod(shape), math.prod(self._shape)
            if size != expected:
                raise InvalidArgumentError(f"Expecting tensor size: {expected} but got: {size}")
            raise InvalidArgumentError(f"Expecting shape {_shape_text(self._shape)} but got: {_shape_text(shape)}")
        self._shape = shape
        self._rows += 1
        self._values += values

    def tensor(self) -> Array:
        return _array(self._values, self._dtype, (self._rows, *self._shape))


def _tensor(value: Json, dtype: str) -> Array:
    fast = _fast_tensor(value, dtype)
    if fast is not None:
        return fast
    shape = _shape(value)
    values: list[Any] = []
    _fill(value, 0, shape, dtype, values)
    return _array(values, dtype, shape)


def _fast_tensor(value: Json, dtype: str) -> Array | None:
    """The tensor, if the value is surely well formed; None if it must be looked at value by value.

    What makes it fast is that types are checked for all values at once.
    """
    shape = _shape(value)
    level = [value]
    for size in shape:
        if not all(type(item) is list and len(item) == size for item in level):
            return None
        level = [element for item in level for element in item]
    types = set(map(type, level))
    if dtype == "string" and types <= {str, dict}:
        try:
            return _array([encode_text(v) if type(v) is str else decode_base64(v) for v in level], dtype, shape)
        except ServingError:
            return None
    if dtype in _EXACT_INTEGERS and types and types <= {int, float}:
        largest = _EXACT_INTEGERS[dtype] if int in types else _LARGEST[dtype]
        try:
            numbers = np.array(level, np.float64)
        except OverflowError:
            return None
        finite = np.abs(numbers[np.isfinite(numbers)])
        return numbers.astype(dtype).reshape(shape) if finite.max(initial=0) <= largest else None
    if dtype in ("int32", "int64") and types == {int}:
        least, most = _INTEGER_RANGES[dtype]
        return np.array(level, dtype).reshape(shape) if least <= min(level) and max(level) <= most else None
    return None


def _fill(value: Json, level: int, shape: tuple[int, ...], dtype: str, values: list[Any]) -> None:
    """Appends the converted values of a nested list to `values`, in order."""
    if not isinstance(value, list):
        if level != len(shape):
            raise InvalidArgumentError(
                f"JSON Value: {_text(value)} found at incorrect level: {level + 1} in the JSON DOM. "
                f"Expected at level: {len(shape)}"
            )
        values.append(_scalar(value, dtype))
        return
    if level >= len(shape):
        raise InvalidArgumentError(f"Encountered list at unexpected level: {level} expected < {len(shape)}")
    if len(value) != shape[level]:
        raise InvalidArgumentError(
            f"Encountered list at unexpected size: {len(value)} at level: {level} expected size: {shape[level]}"
        )
    for item in value:
        _fill(item, level + 1, shape, dtype, values)


def _scalar(value: Json, dtype: str) -> Any:
    if isinstance(value, dict):
        if dtype != "string":
            raise _type_error(value, dtype)
        return decode_base64(value)
    if dtype in _EXACT_INTEGERS:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise _type_error(value, dtype)
        # Integers beyond 64 bits are read as floating point numbers.
        is_integer = isinstance(value, int) and -(2**63) <= value < 2**64
        largest = _EXACT_INTEGERS[dtype] if is_integer else _LARGEST[dtype]
        if (isinstance(value, int) or math.isfinite(value)) and abs(value) > largest:
            raise lossy_error(value, _TYPE_NAMES[dtype])
        return float(value)
    if dtype in _INTEGER_RANGES:
        least, most = _INTEGER_RANGES[dtype]
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise _type_error(value, dtype)
        return value
    if dtype == "string":
        if not isinstance(value, str):
            raise _type_error(value, dtype)
        return encode_text(value)
    if dtype == "bool":
        if not isinstance(value, bool):
            raise _type_error(value, dtype)
        return value
    raise UnimplementedError(f"Conversion of JSON Value: {_text(value)} to type: {_TYPE_NAMES.get(dtype, dtype)}")


def _array(values: list[Any], dtype: str, shape: tuple[int, ...]) -> Array:
    if dtype == "string":
        strings = np.empty(len(values), object)
        strings[:] = values
        return strings.reshape(shape)
    if dtype in ("int8", "int16", "uint8"):
        return np.array(values, np.int32).astype(dtype).reshape(shape)
    return np.array(values, dtype).reshape(shape)


def _shape(value: Json) -> tuple[int, ...]:
    """The shape of a nested list, judged by the first element at each level."""
    shape = []
    while isinstance(value, list):
        shape.append(len(value))
        if not value:
            break
        value = value[0]
    if len(shape) > _MOST_DIMENSIONS:
        raise InvalidArgumentError(f"Encountered list at unexpected level: {len(shape)} expected < {_MOST_DIMENSIONS}")
    return tuple(shape)


def is_base64(value: Json) -> bool:
    """Whether the value is `{"b64": "..."}`."""
    return isinstance(value, dict) and value.keys() == {"b64"} and isinstance(value["b64"], str)


def _is_named(value: Json) -> bool:
    return isinstance(value, dict) and not is_base64(value)


def decode_base64(value: dict[str, Json]) -> bytes:
    """The bytes of a `{"b64": "..."}` object; padding may be left out.

    Raises:
        InvalidArgumentError: It is not such an object, or not base64.
    """
    if not is_base64(value):
        raise InvalidArgumentError(f"JSON Value: {_text(value)} not formatted correctly for base64 data")
    text = "".join(value["b64"].split()).rstrip("=")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise InvalidArgumentError("Unable to base64 decode") from None


def encode_text(text: str) -> bytes:
    """The bytes that a string stood for in the request's body.

    Raises:
        InvalidArgumentError: It holds half of a surrogate pair.
    """
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise InvalidArgumentError("JSON Parse error: The surrogate pair in string is invalid.") from None


# The faults that Python's parser names, in the words of TensorFlow Serving's.
_PARSE_ERRORS = {
    "Expecting value": "Invalid value.",
    "Expecting property name enclosed in double quotes": "Missing a name for object member.",
    "Illegal trailing comma before end of object": "Missing a name for object member.",
    "Illegal trailing comma before end of array": "Invalid value.",
    "Expecting ':' delimiter": "Missing a colon after a name of object member.",
    "Extra data": "The document root must not be followed by other values.",
    "Unterminated string starting at": "Missing a closing quotation mark in string.",
    "Invalid \\escape": "Invalid escape character in string.",
    "Invalid \\uXXXX escape": "Incorrect hex digit after \\u escape in string.",
    "Invalid control character at": "Invalid encoding in string.",
}
_MISSING_COMMA_IN_LIST = "Missing a comma or ] after an array element."
_MISSING_COMMA_IN_OBJECT = "Missing a comma or } after an object member."


def _parse_leniently(body: bytes) -> Json:
    """Parses what strict JSON refuses and TensorFlow Serving takes: NaN, infinities, bytes that are not UTF-8."""
    text = body.decode("utf-8", "surrogateescape")
    if not text.strip():
        raise InvalidArgumentError("JSON Parse error: The document is empty. at offset: " + str(len(body)))
    try:
        return json.loads(text, parse_float=_finite)
    except json.JSONDecodeError as error:
        offset = len(text[: error.pos].encode("utf-8", "surrogateescape"))
        fault = error.msg
        if fault == "Expecting ',' delimiter":
            inside_list = _innermost_bracket(text[: error.pos]) == "["
            words = _MISSING_COMMA_IN_LIST if inside_list else _MISSING_COMMA_IN_OBJECT
        else:
            words = _PARSE_ERRORS.get(fault.removesuffix(":").strip(), fault)
        raise InvalidArgumentError(f"JSON Parse error: {words} at offset: {offset}") from None
    except RecursionError:
        raise InvalidArgumentError("JSON Parse error: The document is nested too deeply.") from None


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise InvalidArgumentError("JSON Parse error: Number too big to be stored in double.")
    return number


def _innermost_bracket(text: str) -> str:
    open_brackets: list[str] = []
    for token in re.findall(r'"(?:[^"\\]|\\.)*"|[\[\]{}]', text):
        if token in "[{":
            open_brackets.append(token)
        elif token in "]}":
            open_brackets.pop()
    return open_brackets[-1] if open_brackets else ""


def _text(value: Json) -> str:
    try:
        return json.dumps(value, indent=4, ensure_ascii=False)
    except RecursionError:
        return "(too deeply nested to show)"


def _shape_text(shape: tuple[int, ...]) -> str:
    return f"[{','.join(map(str, shape))}]"


def kind_of(value: Json) -> str:
    """The kind of a JSON value, as error messages call it."""
    kinds = {type(None): "Null", dict: "Object", list: "Array", str: "String", int: "Number", float: "Number"}
    return str(value) if isinstance(value, bool) else kinds[type(value)]


def _type_error(value: Json, dtype: str) -> InvalidArgumentError:
    expected = _TYPE_NAMES.get(dtype, dtype)
    return InvalidArgumentError(
        f"JSON Value: {_text(value)} Type: {kind_of(value)} is not of expected type: {expected}"
    )


def lossy_error(value: Json, type_name: str) -> InvalidArgumentError:
    """The refusal of a number that a type cannot hold exactly."""
    return InvalidArgumentError(f"Cannot convert JSON value: {_text(value)} to {type_name} without loss of precision.")


def format_error(value: Json, what: str) -> InvalidArgumentError:
    """The refusal of a request that is not of the form that is expected."""
    return InvalidArgumentError(f"JSON Value: {_text(value)} {what}")


# Writing an answer.


def json_from_tensors(outputs: Mapping[str, Array], form: Format) -> bytes:
    """Writes the answer to a request.

    A single output stands without its name. Floating point numbers get the fewest digits that read back as the same
    number; NaN and infinities stand as the tokens NaN, Infinity and -Infinity. A string output whose name ends in
    `_bytes` is written as `{"b64": ...}`; in others, bytes that are not UTF-8 become U+FFFD.

    Args:
        outputs: The arrays, by name; strings as object arrays of bytes.
        form: The form of the request.

    Raises:
        InvalidArgumentError: An output is of a type that JSON cannot carry, or, for rows, has another number of rows.
    """
    if not outputs:
        raise InvalidArgumentError("Cannot convert empty tensor map to JSON")
    for tensor in outputs.values():
        if tensor.dtype.kind != "O" and tensor.dtype.name not in _WRITABLE:
            raise InvalidArgumentError(f"Failed to write JSON value for tensor type: {tensor.dtype.name}")
    if form is Format.ROW:
        _check_rows(outputs)
    if all(tensor.dtype.kind != "f" or np.isfinite(tensor).all() for tensor in outputs.values()):
        return orjson.dumps(
            _answer({name: _writable(name, t) for name, t in outputs.items()}, form), option=orjson.OPT_SERIALIZE_NUMPY
        )
    plain = {name: _plain(_writable(name, tensor)) for name, tensor in outputs.items()}
    return json_bytes(_answer(plain, form))


def json_bytes(document: Json) -> bytes:
    """Writes JSON in which NaN and infinities stand as tokens."""
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def shortest(value: float) -> float:
    """The double with the fewest digits that reads back as the same 32-bit number."""
    return float(str(np.float32(value)))


def _answer(values: Mapping[str, Any], form: Format) -> dict[str, Any]:
    if form is Format.COLUMNAR:
        return {"outputs": values if len(values) > 1 else next(iter(values.values()))}
    if len(values) == 1:
        return {"predictions": next(iter(values.values()))}
    return {"predictions": [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]}


def _check_rows(outputs: Mapping[str, Array]) -> None:
    rows: int | None = None
    for name, tensor in outputs.items():
        if tensor.ndim == 0:
            raise InvalidArgumentError(f"Tensor name: {name} has no shape information ")
        if not len(tensor):
            raise InvalidArgumentError(f"Tensor name: {name} has invalid batch size: 0")
        if rows is not None and len(tensor) != rows:
            raise InvalidArgumentError(
                f"Tensor name: {name} has inconsistent batch size: {len(tensor)} expecting: {rows}"
            )
        rows = len(tensor)


def _writable(name: str, tensor: Array) -> Any:
    """What orjson can write: a contiguous numeric array, a numeric scalar, or (nested lists of) strings."""
    if tensor.dtype.kind == "O":
        write = _base64_object if name.endswith("_bytes") else _readable
        written = np.empty(tensor.size, object)
        written[:] = [write(value) for value in tensor.ravel()]
        return written.reshape(tensor.shape).tolist()
    if tensor.dtype == np.float16:
        tensor = tensor.astype(np.float32)
    return np.ascontiguousarray(tensor) if tensor.ndim else tensor[()]


def _plain(value: Any) -> Any:
    """The same as Python lists and numbers, for the json module."""
    if isinstance(value, np.ndarray | np.generic):
        array = np.asarray(value)
        if array.dtype == np.float32:
            # By way of text, so that 0.1 is not written as 0.10000000149011612.
            array = array.astype(str).astype(np.float64)
        return array.tolist()
    return value


def _readable(value: bytes) -> str:
    return value.decode("utf-8", "replace")


def _base64_object(value: bytes) -> dict[str, str]:
    return {"b64": base64.b64encode(value).decode("ascii")}
