"""What `models.preprocessing` does, by TensorFlow Transform's own analyzers, a column at a time; nothing is clipped."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tensorflow as tf
import tensorflow_transform as tft

from adclick.models.features import (
    DAY_SECONDS,
    EPOCH_WEEKDAY,
    MISSING_VALUE,
    fields_numbered,
    transformed_name,
)
from adclick.schema.feature_table import Bucketised, Categorical, MultiValued, Numeric, parse_feature_table
from adclick.schema.roles.inputs import bucket_name, missing_name

FEATURES_KEY = "features"


def preprocessing_fn(inputs: Mapping[str, Any], custom_config: Mapping[str, Any]) -> dict[str, tf.Tensor]:
    """Transforms raw features by TensorFlow Transform's own analyzers; the callback of a stock Transform component.

    Args:
        inputs: By column, a sparse tensor.
        custom_config: Holds the feature table's JSON under `features`.

    Returns:
        By transformed name: int64 category numbers [batch] ([batch, max_values] for multi-valued columns, padded with
        -1), float32 scaled quantities and missing flags [batch], and the label, int64 [batch].
    """
    features = parse_feature_table(custom_config[FEATURES_KEY])
    outputs: dict[str, tf.Tensor] = {}
    tensors = features.tensor_names
    for name, column in features.model_inputs.items():
        field = tensors[name]
        if isinstance(column, MultiValued):
            outputs[transformed_name(field)] = _several_categories(field, column, _sparse(inputs[name]))
        elif isinstance(column, Categorical):
            values = _dense(_sparse(inputs[name]), MISSING_VALUE)
            outputs[transformed_name(field)] = _category(field, column, values)
        elif isinstance(column, Bucketised):
            outputs[transformed_name(field)] = _bucket(field, _sparse(inputs[name]), column.buckets)
        elif isinstance(column, Numeric):
            quantity = _sparse(inputs[name])
            outputs[transformed_name(missing_name(field))] = _dense(
                tf.SparseTensor(quantity.indices, tf.zeros_like(quantity.values), quantity.dense_shape), 1.0
            )
            outputs[transformed_name(field)] = _dense(_scale(quantity, column.scaling), 0.0)
            if column.buckets > 1:
                outputs[transformed_name(bucket_name(field))] = _bucket(field, quantity, column.buckets)
    if features.timestamp_name is not None:
        seconds = _dense(_sparse(inputs[features.timestamp_name]), 0)
        times = {
            "hour": tf.math.floormod(tf.math.floordiv(seconds, 3600), 24),
            "weekday": tf.math.floormod(tf.math.floordiv(seconds, DAY_SECONDS) + EPOCH_WEEKDAY, 7),
        }
        for _, part in fields_numbered(features, {"hour", "weekday"}):
            outputs[transformed_name(part.name)] = times[part.by]
    outputs[transformed_name(tensors[features.label_name])] = _dense(_sparse(inputs[features.label_name]), 0)
    return outputs


def _sparse(values: Any) -> tf.SparseTensor:
    if not isinstance(values, tf.SparseTensor):
        raise TypeError("the schema gives a feature a fixed shape; remove `shape`, so that missing values stay missing")
    return values


def _dense(values: tf.SparseTensor, default: Any) -> tf.Tensor:
    """The first value of each row, [batch]."""
    shape = tf.stack([values.dense_shape[0], 1])
    first = tf.SparseTensor(values.indices, values.values, tf.maximum(values.dense_shape, shape))
    rows = tf.sparse.to_dense(first, default_value=tf.cast(default, values.dtype))[:, 0]
    return tf.ensure_shape(rows, [None])


def _category(field: str, column: Categorical, values: tf.Tensor | tf.SparseTensor) -> Any:
    if column.encoding == "hashed":
        if isinstance(values, tf.SparseTensor):
            numbers = tf.strings.to_hash_bucket_fast(values.values, column.hash_buckets)
            return tf.SparseTensor(values.indices, numbers, values.dense_shape)
        return tf.strings.to_hash_bucket_fast(values, column.hash_buckets)
    return tft.compute_and_apply_vocabulary(
        values,
        top_k=column.max_size,
        frequency_threshold=column.min_count,
        num_oov_buckets=1,
        vocab_filename=field,
    )


def _several_categories(field: str, column: MultiValued, values: tf.SparseTensor) -> tf.Tensor:
    numbers = _category(field, column, values)
    rows = values.dense_shape[0]
    kept = tf.sparse.retain(numbers, numbers.indices[:, 1] < column.max_values)
    padded = tf.SparseTensor(kept.indices, kept.values, tf.stack([rows, column.max_values]))
    return tf.ensure_shape(tf.sparse.to_dense(padded, default_value=-1), [None, column.max_values])


def _scale(quantity: tf.SparseTensor, scaling: str) -> tf.SparseTensor:
    if scaling == "none":
        return quantity
    if scaling == "log":
        values = tf.sign(quantity.values) * tf.math.log1p(tf.abs(quantity.values))
        quantity = tf.SparseTensor(quantity.indices, values, quantity.dense_shape)
    return tft.scale_to_z_score(quantity)


def _bucket(field: str, quantity: tf.SparseTensor, buckets: int) -> tf.Tensor:
    return _dense(tft.bucketize(quantity, buckets, name=f"{field}_quantiles"), buckets)
