"""TensorFlow Serving's JSON form of requests to classify and to regress."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import tensorflow as tf
from tensorflow_serving.apis import input_pb2

from adclick.serving.errors import InvalidArgumentError
from adclick.serving.model_server.json_document import (
    DoubledObject,
    Json,
    decode_base64,
    encode_text,
    format_error,
    is_base64,
    kind_of,
)

_LARGEST_FLOAT = 3.4028235677973366e38
_TYPES = {"bytes_list": "bytes", "float_list": "float", "int64_list": "int64"}


def input_from_json(document: Mapping[str, Json]) -> Any:
    """Reads the examples, and the context that they share, of a request.

    Raises:
        InvalidArgumentError: The request has no examples, or a feature's values are of several types.
    """
    message = input_pb2.Input()
    context = document.get("context") if "context" in document else None
    if "context" in document:
        message.example_list_with_context.context.CopyFrom(_example(context))
    if "examples" not in document:
        raise format_error(document, "When method is classify, key 'examples' is expected and was not found")
    examples = document["examples"]
    if not isinstance(examples, list):
        raise format_error(document, "Expecting 'examples' value to be an list/array")
    if not examples:
        raise format_error(document, "'examples' value is an empty array")
    target = message.example_list_with_context if "context" in document else message.example_list
    target.examples.extend(_example(example) for example in examples)
    return message


def _example(value: Json) -> Any:
    if not isinstance(value, dict):
        raise InvalidArgumentError(f"Example must be JSON object but got JSON {kind_of(value)}")
    example = tf.train.Example()
    # Features are assigned one after the other: here the last of a doubled key counts.
    features = value.latest if isinstance(value, DoubledObject) else value
    for name, content in features.items():
        if not name.isascii() and encode_text(name) != name.encode("utf-8", "replace"):
            raise InvalidArgumentError("JSON Parse error: Invalid encoding in string.")
        feature = example.features.feature[name]
        for item in content if isinstance(content, list) else [content]:
            _add(feature, name, item)
    return example


def _add(feature: Any, name: str, value: Json) -> None:
    if isinstance(value, bool):
        _values(feature, name, "int64_list").append(int(value))
    elif isinstance(value, str):
        _values(feature, name, "bytes_list").append(encode_text(value))
    elif isinstance(value, int):
        if -(2**63) <= value < 2**63:
            _values(feature, name, "int64_list").append(value)
        elif value < 2**64 and value > 0:
            _values(feature, name, "int64_list")
            raise InvalidArgumentError(f"Feature: {name} has uint64_t element. Only int64_t is supported.")
        else:
            _add(feature, name, float(value))
    elif isinstance(value, float):
        values = _values(feature, name, "float_list")
        # Beyond the range of float32 it is infinite.
        values.append(value if abs(value) < _LARGEST_FLOAT else value * math.inf)
    elif is_base64(value):
        _values(feature, name, "bytes_list").append(decode_base64(value))
    else:
        raise InvalidArgumentError(f"Feature: {name} has element with unexpected JSON type: {kind_of(value)}")


def _values(feature: Any, name: str, kind: str) -> Any:
    have = feature.WhichOneof("kind")
    if have not in (None, kind):
        raise InvalidArgumentError(f"Unexpected element type in feature: {name} expecting type: {_TYPES[have]}")
    return getattr(feature, kind).value
