"""Arrays and TensorProtos, as TensorFlow Serving reads and writes them over gRPC."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2, types_pb2

from serving.errors import InvalidArgumentError
from serving.model_server.servable import Array

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


def array_from_proto(proto: Any, name: str) -> Array:
    """Reads a TensorProto; strings become an object array of bytes.

    Raises:
        InvalidArgumentError: Its type is unknown, or its values do not fill its shape.
    """
    sizes = [dimension.size for dimension in proto.tensor_shape.dim]
    size = math.prod(sizes)
    if proto.dtype == types_pb2.DT_INVALID or proto.tensor_shape.unknown_rank or any(size < 0 for size in sizes):
        raise InvalidArgumentError(f"tensor parsing error: {name}")
    if size > _MOST_REPEATED and not proto.tensor_content and size > _values(proto):
        raise InvalidArgumentError(f"tensor parsing error: {name}")
    try:
        array = np.asarray(tf.make_ndarray(proto))
    except (TypeError, ValueError, KeyError, AttributeError, IndexError, OverflowError):
        raise InvalidArgumentError(f"tensor parsing error: {name}") from None
    if array.size != size:
        raise InvalidArgumentError(f"tensor parsing error: {name}")
    return array


def _values(proto: Any) -> int:
    return sum(len(value) for field, value in proto.ListFields() if field.name.endswith("_val"))


def proto_from_array(array: Array) -> Any:
    """Writes a TensorProto with its values in the field of their type, not as packed content."""
    kind = array.dtype.name if array.dtype.kind not in "SU" else "object"
    dtype = tf.string if kind == "object" else tf.as_dtype(array.dtype)
    proto = tensor_pb2.TensorProto(dtype=dtype.as_datatype_enum)
    proto.tensor_shape.SetInParent()
    for size in array.shape:
        proto.tensor_shape.dim.add(size=size)
    flat = array.ravel()
    if kind in ("float16", "bfloat16"):
        flat = flat.view(np.uint16)
    elif array.dtype.kind == "c":
        flat = flat.view(np.float32 if kind == "complex64" else np.float64)
    getattr(proto, _FIELDS[kind]).extend(flat.tolist())
    return proto
