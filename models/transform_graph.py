"""The Transform graph as it is applied: in training and, tracked by the exported model, in serving."""

from __future__ import annotations

import os
from collections.abc import Mapping

import tensorflow as tf
import tensorflow_transform as tft


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
