"""Warm-up requests for a candidate: real ones, so that a server has run each signature before a client waits for it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import prediction_log_pb2

from adclick.models.export import request_specs
from adclick.models.requests import requests_from_examples
from adclick.schema.feature_table import FeatureTable
from adclick.schema.signatures import EMBED_CREATIVE, SCORE, SERVING_DEFAULT, SERVING_EXAMPLES
from adclick.serving.model_server.tensor_proto import proto_from_array
from adclick.serving.model_server.warmup import WARMUP_FILE
from adclick.storage.push_directory import MODEL_FILE

Inputs = Mapping[str, np.ndarray[Any, Any]]


def write_warmup_requests(
    model_folder: str, examples: Sequence[bytes], creatives: Mapping[str, bytes], features: FeatureTable
) -> str:
    """Writes the requests into a SavedModel, where TensorFlow Serving looks for them.

    Args:
        model_folder: The SavedModel.
        examples: Serialized examples.
        creatives: By creative key, an image file's bytes.
        features: The feature table.

    Returns:
        The file.
    """
    path = os.path.join(model_folder, WARMUP_FILE)
    tf.io.gfile.makedirs(os.path.dirname(path))
    with tf.io.TFRecordWriter(path) as writer:
        for signature, inputs in _requests(model_folder, examples, creatives, features):
            log = prediction_log_pb2.PredictionLog()
            request = log.predict_log.request
            request.model_spec.signature_name = signature
            for name, array in inputs.items():
                request.inputs[name].CopyFrom(proto_from_array(array))
            writer.write(log.SerializeToString())
    return path


def _requests(
    model_folder: str, examples: Sequence[bytes], creatives: Mapping[str, bytes], features: FeatureTable
) -> Iterator[tuple[str, Inputs]]:
    rows = requests_from_examples(examples, features)
    for count in sorted({1, len(rows)}):
        yield SERVING_DEFAULT, _columns(rows[:count], features)
        yield SERVING_EXAMPLES, {"examples": _strings(examples[:count])}
        image = features.image_name
        if image is not None:
            columns = _columns(rows[:count], features)
            keys = columns.pop(image)
            yield EMBED_CREATIVE, {image: keys}
            embedding = features.creative_embedding_name
            width = _embedding_width(model_folder, embedding)
            yield SCORE, {**columns, embedding: np.zeros((count, width), np.float32)}
    if features.image_name is not None and creatives:
        yield EMBED_CREATIVE, {features.image_name: _strings([next(iter(creatives.values()))])}


def _columns(rows: Sequence[Mapping[str, Any]], features: FeatureTable) -> dict[str, np.ndarray[Any, Any]]:
    columns = {}
    for name, spec in request_specs(features).items():
        values = [row[name] for row in rows]
        columns[name] = _strings(values) if spec.dtype == tf.string else np.array(values, spec.dtype.as_numpy_dtype)
    return columns


def _strings(values: Sequence[Any]) -> np.ndarray[Any, Any]:
    shaped = np.array(values, object)
    flat = [value.encode() if isinstance(value, str) else value for value in shaped.ravel()]
    encoded = np.empty(len(flat), object)
    encoded[:] = flat
    return encoded.reshape(shaped.shape)


def _embedding_width(model_folder: str, embedding: str) -> int:
    with tf.io.gfile.GFile(os.path.join(model_folder, MODEL_FILE), "rb") as stream:
        graph = saved_model_pb2.SavedModel.FromString(stream.read()).meta_graphs[0]
    return int(graph.signature_def[SCORE].inputs[embedding].tensor_shape.dim[1].size)
