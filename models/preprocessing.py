"""The Transform graph: raw features to category numbers and scaled quantities, in training and serving alike."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Protocol

import tensorflow as tf
import tensorflow_transform as tft

from models.analysis import Analysis, boundaries, vocabulary
from models.features import (
    DAY_SECONDS,
    EPOCH_WEEKDAY,
    MISSING_VALUE,
    bucket_name,
    derived_times,
    missing_name,
    transformed_name,
)
from schema.feature_table import Bucketised, Categorical, FeatureTable, MultiValued, Numeric, parse_feature_table

FEATURES_KEY = "features"


class Analyzers(Protocol):
    """The parts of the graph that depend on the data."""

    def look_up(self, name: str, column: Categorical, values: Any) -> Any:
        """Numbers the values of a vocabulary column, dense or sparse; all unknown ones get the next number."""

    def centre(self, name: str, values: tf.SparseTensor) -> tf.SparseTensor:
        """Brings quantities to mean 0 and standard deviation 1."""

    def bucket(self, name: str, values: tf.SparseTensor, buckets: int) -> tf.SparseTensor:
        """Numbers the quantile buckets of quantities."""


class TransformAnalyzers:
    """Those of TensorFlow Transform, which reads the data for each."""

    def look_up(self, name: str, column: Categorical, values: Any) -> Any:
        return tft.compute_and_apply_vocabulary(
            values,
            top_k=column.max_size,
            frequency_threshold=column.min_count,
            num_oov_buckets=1,
            vocab_filename=name,
        )

    def centre(self, name: str, values: tf.SparseTensor) -> tf.SparseTensor:
        return tft.scale_to_z_score(values)

    def bucket(self, name: str, values: tf.SparseTensor, buckets: int) -> tf.SparseTensor:
        return tft.bucketize(values, buckets, name=f"{name}_quantiles")


class KnownAnalyzers:
    """Answers from an analysis that was made before."""

    def __init__(self, analysis: Analysis, folder: str) -> None:
        """Takes an analysis, and a folder for vocabulary files that must last until the graph is saved."""
        self._analysis = analysis
        self._folder = folder

    def look_up(self, name: str, column: Categorical, values: Any) -> Any:
        path = os.path.join(self._folder, name)
        with tf.io.gfile.GFile(path, "wb") as stream:
            known = vocabulary(self._analysis.values[name], column.min_count, column.max_size)
            stream.write(b"\n".join([*known, b""]))
        return tft.apply_vocabulary(values, path, num_oov_buckets=1)

    def centre(self, name: str, values: tf.SparseTensor) -> tf.SparseTensor:
        moments = self._analysis.moments[name]
        centred = (values.values - moments.mean) / (moments.deviation or 1.0)
        return tf.SparseTensor(values.indices, centred, values.dense_shape)

    def bucket(self, name: str, values: tf.SparseTensor, buckets: int) -> tf.SparseTensor:
        return tft.apply_buckets(values, tf.constant([boundaries(self._analysis.distributions[name], buckets)]))


def preprocessing_fn(inputs: Mapping[str, Any], custom_config: Mapping[str, Any]) -> dict[str, tf.Tensor]:
    """Transforms raw features by TensorFlow Transform's own analyzers; the callback of a stock Transform component.

    Args:
        inputs: By column, a sparse tensor.
        custom_config: Holds the feature table's JSON under `features`.
    """
    return transform_features(inputs, parse_feature_table(custom_config[FEATURES_KEY]), TransformAnalyzers())


def transform_features(inputs: Mapping[str, Any], features: FeatureTable, analyzers: Analyzers) -> dict[str, tf.Tensor]:
    """Transforms raw features.

    Args:
        inputs: By column, a sparse tensor with the values that are there.
        features: The feature table.
        analyzers: What depends on the data.

    Returns:
        By transformed name: int64 category numbers [batch] ([batch, max_values] for multi-valued columns, padded with
        -1), float32 scaled quantities and missing flags [batch], and the label, int64 [batch].
    """
    outputs: dict[str, tf.Tensor] = {}
    for name, column in features.model_inputs.items():
        if isinstance(column, MultiValued):
            outputs[transformed_name(name)] = _several_categories(name, column, analyzers, _sparse(inputs[name]))
        elif isinstance(column, Categorical):
            values = _dense(_sparse(inputs[name]), MISSING_VALUE)
            outputs[transformed_name(name)] = _category(name, column, analyzers, values)
        elif isinstance(column, Bucketised):
            outputs[transformed_name(name)] = _bucket(analyzers, name, _sparse(inputs[name]), column.buckets)
        elif isinstance(column, Numeric):
            quantity = _sparse(inputs[name])
            outputs[transformed_name(missing_name(name))] = _dense(
                tf.SparseTensor(quantity.indices, tf.zeros_like(quantity.values), quantity.dense_shape), 1.0
            )
            outputs[transformed_name(name)] = _dense(_scale(analyzers, name, quantity, column.scaling), 0.0)
            if column.buckets > 1:
                outputs[transformed_name(bucket_name(name))] = _bucket(analyzers, name, quantity, column.buckets)
    if features.timestamp_name is not None:
        seconds = _dense(_sparse(inputs[features.timestamp_name]), 0)
        times = {
            "hour": tf.math.floormod(tf.math.floordiv(seconds, 3600), 24),
            "weekday": tf.math.floormod(tf.math.floordiv(seconds, DAY_SECONDS) + EPOCH_WEEKDAY, 7),
        }
        for derived in derived_times(features):
            outputs[transformed_name(derived)] = times[derived]
    outputs[transformed_name(features.label_name)] = _dense(_sparse(inputs[features.label_name]), 0)
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


def _category(name: str, column: Categorical, analyzers: Analyzers, values: tf.Tensor | tf.SparseTensor) -> Any:
    if column.encoding == "hashed":
        if isinstance(values, tf.SparseTensor):
            numbers = tf.strings.to_hash_bucket_fast(values.values, column.hash_buckets)
            return tf.SparseTensor(values.indices, numbers, values.dense_shape)
        return tf.strings.to_hash_bucket_fast(values, column.hash_buckets)
    return analyzers.look_up(name, column, values)


def _several_categories(name: str, column: MultiValued, analyzers: Analyzers, values: tf.SparseTensor) -> tf.Tensor:
    numbers = _category(name, column, analyzers, values)
    rows = values.dense_shape[0]
    kept = tf.sparse.retain(numbers, numbers.indices[:, 1] < column.max_values)
    padded = tf.SparseTensor(kept.indices, kept.values, tf.stack([rows, column.max_values]))
    return tf.ensure_shape(tf.sparse.to_dense(padded, default_value=-1), [None, column.max_values])


def _scale(analyzers: Analyzers, name: str, quantity: tf.SparseTensor, scaling: str) -> tf.SparseTensor:
    if scaling == "none":
        return quantity
    if scaling == "log":
        values = tf.sign(quantity.values) * tf.math.log1p(tf.abs(quantity.values))
        quantity = tf.SparseTensor(quantity.indices, values, quantity.dense_shape)
    return analyzers.centre(name, quantity)


def _bucket(analyzers: Analyzers, name: str, quantity: tf.SparseTensor, buckets: int) -> tf.Tensor:
    return _dense(analyzers.bucket(name, quantity, buckets), buckets)
