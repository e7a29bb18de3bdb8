"""Arrays and TensorProtos, as TensorFlow Serving reads and writes them over gRPC."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2, types_pb2

from adclick.serving.errors import InvalidArgumentError

Array = np.ndarray[Any, Any]

#: A short message may stand for a large tensor by repeating its last value; beyond so many elements it is refused.
_MOST_REPEATED = 2**26
_INTEGERS = ("int8", "int16", "int32", "uint8", "uint16")
#: The field of a TensorProto that holds the values of a type.
_FIELDS = {
    "float32": "float_val",
    "float64": "double_val",
    "int64": "int64_val",
    "uint32": "uint32_val",
    "uint64": "uint64_val",
    "bool": "bool_val",
    "object": "string_val",
    **dict.fromkeys(_INTEGERS, "int_val"),
    "float16": "half_val",
    "bfloat16": "half_val",
    "complex64": "scomplex_val",
    "complex128": "dcomplex_val",
}
#: How the values of a field are written where it is not by their own type.
_PARTS = {"float16": np.uint16, "bfloat16": np.uint16, "complex64": np.float32, "complex128": np.float64}


def array_from_proto(proto: Any, name: str) -> Array:
    """Reads a TensorProto; strings become an object array of bytes.

    Of more values than its shape has places the first count, and the last of fewer stands for those that are missing.

    Raises:
        InvalidArgumentError: Its type is unknown, or its packed content does not fill its shape.
    """
    sizes = [dimension.size for dimension in proto.tensor_shape.dim]
    size = math.prod(sizes)
    if proto.dtype == types_pb2.DT_INVALID or proto.tensor_shape.unknown_rank or any(size < 0 for size in sizes):
        raise InvalidArgumentError(f"tensor parsing error: {name}")
    try:
        dtype = tf.as_dtype(proto.dtype)
        array = _packed(proto.tensor_content, dtype, size) if proto.tensor_content else _listed(proto, dtype, size)
        return array.reshape(sizes)
    except (TypeError, ValueError, KeyError, AttributeError, IndexError, OverflowError):
        raise InvalidArgumentError(f"tensor parsing error: {name}") from None


def _packed(content: bytes, dtype: tf.DType, size: int) -> Array:
    if dtype != tf.string:
        return np.frombuffer(content, dtype.as_numpy_dtype)
    lengths, offset = [], 0
    for _ in range(size):
        length, offset = _read_varint(content, offset)
        lengths.append(length)
    if offset + sum(lengths) != len(content):
        raise ValueError("the strings do not fill the content")
    strings = np.empty(size, object)
    for index, length in enumerate(lengths):
        strings[index] = content[offset : offset + length]
        offset += length
    return strings


def _read_varint(content: bytes, offset: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = content[offset]
        number |= (byte & 127) << shift
        offset, shift = offset + 1, shift + 7
        if byte < 128:
            return number, offset


def _listed(proto: Any, dtype: tf.DType, size: int) -> Array:
    kind = "object" if dtype == tf.string else np.dtype(dtype.as_numpy_dtype).name
    values = getattr(proto, _FIELDS[kind])
    if kind == "object":
        array = np.empty(len(values), object)
        array[:] = values
        nothing: Any = b""
    else:
        # Wider integers wrap, as in TensorFlow.
        array = np.array(values, _PARTS.get(kind, np.int32 if kind in _INTEGERS else kind))
        target = np.dtype(dtype.as_numpy_dtype)
        array = array.view(target) if kind in _PARTS else array.astype(target)
        nothing = target.type(0)
    if len(array) >= size:
        return array[:size]
    if size > _MOST_REPEATED:
        raise ValueError("a large tensor of few values")
    filler = array[-1] if len(array) else nothing
    rest = np.empty(size - len(array), array.dtype)
    rest[:] = filler
    return np.concatenate([array, rest])


def proto_from_array(array: Array, as_content: bool = False) -> Any:
    """Writes a TensorProto.

    Args:
        array: The values; strings as bytes.
        as_content: Whether they are packed; otherwise they stand in the field of their type.
    """
    kind = array.dtype.name if array.dtype.kind not in "SU" else "object"
    dtype = tf.string if kind == "object" else tf.as_dtype(array.dtype)
    proto = tensor_pb2.TensorProto(dtype=dtype.as_datatype_enum)
    proto.tensor_shape.SetInParent()
    for size in array.shape:
        proto.tensor_shape.dim.add(size=size)
    flat = array.ravel()
    if as_content:
        proto.tensor_content = _content(flat) if kind == "object" else flat.tobytes()
        return proto
    getattr(proto, _FIELDS[kind]).extend((flat.view(_PARTS[kind]) if kind in _PARTS else flat).tolist())
    return proto


def _content(strings: Array) -> bytes:
    return b"".join(_varint(len(value)) for value in strings) + b"".join(strings)


def _varint(number: int) -> bytes:
    written = bytearray()
    while number >= 128:
        written.append(number & 127 | 128)
        number >>= 7
    written.append(number)
    return bytes(written)
