"""The Transform graph: traced from an analysis, applied in training and, tracked by the exported model, in serving."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping

import tensorflow as tf
import tensorflow_transform as tft
from tensorflow_metadata.proto.v0 import schema_pb2
from tensorflow_transform import impl_helper
from tensorflow_transform.tf_metadata import dataset_metadata, metadata_io, schema_utils

from models.analysis import Analysis
from models.preprocessing import KnownAnalyzers, transform_features
from schema.feature_table import FeatureTable


def write_transform_graph(analysis: Analysis, schema: schema_pb2.Schema, features: FeatureTable, folder: str) -> None:
    """Writes to `folder` what `tft.TFTransformOutput` reads: the graph, its assets, and both schemas."""
    metadata = dataset_metadata.DatasetMetadata(schema)
    metadata_io.write_metadata(metadata, os.path.join(folder, tft.TFTransformOutput.RAW_METADATA_DIR))
    specs = schema_utils.schema_as_feature_spec(schema).feature_spec
    types = {name: tf.SparseTensorSpec([None, None], spec.dtype) for name, spec in specs.items()}
    with tempfile.TemporaryDirectory(prefix="adclick-transform-") as work:
        analyzers = KnownAnalyzers(analysis, work)
        impl_helper.analyze_in_place(
            lambda inputs: transform_features(inputs, features, analyzers), False, specs, types, folder
        )


class TransformGraph(tf.Module):  # type: ignore[misc]
    """Applies a Transform graph.

    TensorFlow Transform's own layer is a Keras 2 model, which traces itself for seconds whenever it is called or saved.
    """

    def __init__(self, folder: str) -> None:
        """Loads the graph from the folder of Transform's output."""
        super().__init__()
        self.output = tft.TFTransformOutput(folder)
        self.raw_feature_spec: dict[str, tf.io.VarLenFeature] = self.output.raw_feature_spec()
        self._loaded = tf.saved_model.load(os.path.join(folder, tft.TFTransformOutput.TRANSFORM_FN_DIR))

    def __call__(self, raw: Mapping[str, tf.SparseTensor]) -> dict[str, tf.Tensor]:
        """Transforms raw features, of which those that are not given are missing throughout."""
        batch = next(iter(raw.values())).dense_shape[0]
        inputs = {
            name: raw[name] if name in raw else _missing(batch, spec.dtype)
            for name, spec in self.raw_feature_spec.items()
        }
        transformed: dict[str, tf.Tensor] = self._loaded.transform_fn(inputs)
        return transformed


def _missing(batch: tf.Tensor, dtype: tf.DType) -> tf.SparseTensor:
    shape = tf.stack([batch, tf.constant(0, tf.int64)])
    return tf.SparseTensor(tf.zeros([0, 2], tf.int64), tf.zeros([0], dtype), shape)
