"""Prediction requests from raw examples: what a client sends for an impression that ingestion wrote."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from adclick.schema.feature_table import FeatureTable, RawType

#: The types of the inputs of `serving_default`.
TENSOR_TYPES = {RawType.STRING: tf.string, RawType.FLOAT: tf.float32, RawType.INT: tf.int64}
#: What a request sends for a value that is missing.
MISSING: Mapping[RawType, Any] = {RawType.STRING: "", RawType.FLOAT: float("nan"), RawType.INT: -1}


def text_or_bytes(value: bytes) -> str | bytes:
    """Text where it is UTF-8, the bytes themselves otherwise."""
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return value


def parse_examples(examples: tf.Tensor, features: FeatureTable, *, labelled: bool = False) -> dict[str, tf.Tensor]:
    """The inputs of `serving_default` from serialized `tf.Example`s, string [batch].

    Args:
        examples: What ingestion wrote, or a caller sends.
        features: The feature table.
        labelled: Whether the label is given, too.

    Returns:
        By column, [batch], of a multi-valued one [batch, values]; where a value is missing, what `MISSING` says.
    """
    names = [*features.model_inputs, *([features.label_name] if labelled else [])]
    types = {name: TENSOR_TYPES[features.raw_type(name)] for name in names}
    missing = {name: MISSING[features.raw_type(name)] for name in names}
    # A feature that is present with no value is missing, too; a parse of one value each would refuse it.
    spec = {
        name: tf.io.FixedLenSequenceFeature([], types[name], allow_missing=True, default_value=missing[name])
        for name in names
    }
    # With one value at least, here in a row more, every column has a width.
    kinds = {tf.string: "bytes_list", tf.float32: "float_list", tf.int64: "int64_list"}
    row = tf.train.Example()
    for name in names:
        value = missing[name]
        values = getattr(row.features.feature[name], kinds[types[name]]).value
        values.append(value.encode() if isinstance(value, str) else value)
    parsed = tf.io.parse_example(tf.concat([examples, [row.SerializeToString()]], axis=0), spec)
    begin, end, strides = tf.constant([0, 0]), tf.constant([-1, 1]), tf.constant([1, 1])

    def without_row(name: str) -> tf.Tensor:
        if features.root[name].is_list:
            return parsed[name][:-1]
        # As `parsed[name][:-1, 0]`, which has constants of its own for each column.
        first = tf.raw_ops.StridedSlice(
            input=parsed[name], begin=begin, end=end, strides=strides, shrink_axis_mask=2, begin_mask=1
        )
        return tf.ensure_shape(first, [None])

    return {name: without_row(name) for name in names}


def requests_from_examples(examples: Sequence[bytes], features: FeatureTable) -> list[dict[str, Any]]:
    """Rows for `serving_default` from serialized `tf.Example`s; the image is its creative's key."""
    rows = []
    for serialized in examples:
        example = tf.train.Example.FromString(serialized)
        row: dict[str, Any] = {}
        for name, column in features.model_inputs.items():
            values = _values(example.features.feature.get(name))
            if column.is_list:
                row[name] = values
            else:
                row[name] = values[0] if values else MISSING[features.raw_type(name)]
        rows.append(row)
    return pad_multi_valued(rows, features)


def pad_multi_valued(rows: Sequence[Mapping[str, Any]], features: FeatureTable) -> list[dict[str, Any]]:
    """Fills the lists of multi-valued columns with empty values to one length, as a tensor needs it."""
    padded = [dict(row) for row in rows]
    for name in (name for name, column in features.model_inputs.items() if column.is_list):
        longest = max([1, *(len(row[name]) for row in padded)])
        for row in padded:
            row[name] = [*row[name], *[MISSING[RawType.STRING]] * (longest - len(row[name]))]
    return padded


def _values(feature: Any) -> list[Any]:
    if feature is None:
        return []
    kind = feature.WhichOneof("kind")
    if kind is None:
        return []
    values = getattr(feature, kind).value
    return [text_or_bytes(value) for value in values] if kind == "bytes_list" else list(values)
