"""TensorFlow Serving's JSON forms of a predict request.

Rows: `{"instances": [...]}` is answered by `{"predictions": [...]}`. Columns: `{"inputs": ...}` is answered by
`{"outputs": ...}`. What is accepted, what is refused and in which words follow TensorFlow Serving.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from enum import Enum
from typing import Any

import numpy as np

from adclick.serving.errors import InvalidArgumentError, ServingError, UnimplementedError
from adclick.serving.model_server.json_document import (
    Json,
    decode_base64,
    encode_text,
    format_error,
    is_base64,
    kind_of,
)
from adclick.serving.model_server.json_text import debug_text

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
_FLOATS = ("float32", "float64")
_MOST_DIMENSIONS = 32


def signature_name(document: Mapping[str, Json]) -> str:
    """The name of the signature that a request asks for; empty if it names none.

    Raises:
        InvalidArgumentError: The name is not a string.
    """
    name = document.get("signature_name", "")
    if not isinstance(name, str):
        raise InvalidArgumentError(
            f"JSON Value: {debug_text(document)} not formatted correctly. 'signature_name' key must be a string value."
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
            raise format_error(document, "Expecting 'instances' to be an list/array")
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
                f"Failed to process element: {index} of 'instances' list. JSON object: {debug_text(row)} "
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
    if dtype in _FLOATS and types and types <= {int, float}:
        return _floats(level, dtype).reshape(shape)
    if dtype in ("int32", "int64") and types == {int}:
        least, most = _INTEGER_RANGES[dtype]
        return np.array(level, dtype).reshape(shape) if least <= min(level) and max(level) <= most else None
    return None


def _fill(value: Json, level: int, shape: tuple[int, ...], dtype: str, values: list[Any]) -> None:
    """Appends the converted values of a nested list to `values`, in order."""
    if not isinstance(value, list):
        if level != len(shape):
            raise InvalidArgumentError(
                f"JSON Value: {debug_text(value)} found at incorrect level: {level + 1} in the JSON DOM. "
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
    if dtype in _FLOATS:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise _type_error(value, dtype)
        return value
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
    raise UnimplementedError(f"Conversion of JSON Value: {debug_text(value)} to type: {_TYPE_NAMES.get(dtype, dtype)}")


def _array(values: list[Any], dtype: str, shape: tuple[int, ...]) -> Array:
    if dtype == "string":
        strings = np.empty(len(values), object)
        strings[:] = values
        return strings.reshape(shape)
    if dtype in ("int8", "int16", "uint8"):
        return np.array(values, np.int32).astype(dtype).reshape(shape)
    if dtype in _FLOATS:
        return _floats(values, dtype).reshape(shape)
    return np.array(values, dtype).reshape(shape)


def _floats(values: list[Any], dtype: str) -> Array:
    """The numbers by way of doubles, rounded; what is beyond the type's range becomes infinity."""
    with np.errstate(over="ignore"):
        return np.array(values, np.float64).astype(dtype)


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


def _is_named(value: Json) -> bool:
    return isinstance(value, dict) and not is_base64(value)


def _shape_text(shape: tuple[int, ...]) -> str:
    return f"[{','.join(map(str, shape))}]"


def _type_error(value: Json, dtype: str) -> InvalidArgumentError:
    expected = _TYPE_NAMES.get(dtype, dtype)
    return InvalidArgumentError(
        f"JSON Value: {debug_text(value)} Type: {kind_of(value)} is not of expected type: {expected}"
    )
