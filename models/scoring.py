"""Click probabilities of whole columns by an exported model: what batch prediction asks instead of a server."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import tensorflow as tf

from adclick.models.description import ModelDescription, read_description
from adclick.models.export import CREATIVES_ASSET
from adclick.models.loading import load_model
from adclick.models.requests import MISSING
from adclick.schema.feature_table import Column, MultiValued, RawType
from adclick.schema.signatures import CLICK_PROBABILITY, CREATIVE_EMBEDDING, EMBED_CREATIVE, SCORE, SERVING_DEFAULT

Floats32 = npt.NDArray[np.float32]

#: Rows scored at a time; bounds the memory of the network's layers.
_BATCH_ROWS = 16_384
_NUMPY_TYPES = {RawType.FLOAT: np.float32, RawType.INT: np.int64}


class Scorer:
    """Scores typed columns, as ingestion reads them.

    Attributes:
        description: What the model says of itself.
        known_creatives: Keys of the creatives whose embeddings the model holds; empty for a model without images.

    Args:
        model_folder: A SavedModel of ours.

    Raises:
        ConfigError: The model is not one of ours.
    """

    def __init__(self, model_folder: str) -> None:
        self.description: ModelDescription = read_description(model_folder)
        self._tensors = self.description.features.tensor_names
        self._model = load_model(model_folder)
        self.known_creatives = _creative_keys(model_folder)

    def embed(self, images: Sequence[bytes]) -> Floats32:
        """Embeds creatives given by key or encoded bytes, each once: float32 [images, width]."""
        argument = self._tensors[str(self.description.features.image_name)]
        embedded = self._model.signatures[EMBED_CREATIVE](**{argument: tf.constant(list(images), tf.string)})
        return np.asarray(embedded[CREATIVE_EMBEDDING])

    def score(self, columns: Mapping[str, pa.Array], creatives: Floats32 | None = None) -> Floats32:
        """Click probabilities, float32 [rows].

        Args:
            columns: Each column that the model takes but the image: binary, float32, int64, or a list of binary for a
                multi-valued column; null where a value is missing.
            creatives: The embedding of each row's creative as `embed` gives it, float32 [rows, width]; None for a model
                without images.
        """
        features = self.description.features
        inputs = [
            _Input(self._tensors[name], column, features.raw_type(name), columns[name])
            for name, column in features.model_inputs.items()
            if name != features.image_name
        ]
        rows = len(next(iter(columns.values())))
        signature = self._model.signatures[SERVING_DEFAULT if creatives is None else SCORE]
        parts = []
        for start in range(0, rows, _BATCH_ROWS):
            some = slice(start, min(start + _BATCH_ROWS, rows))
            tensors = {one.name: one.tensor(some) for one in inputs}
            if creatives is not None:
                tensors[features.creative_embedding_name] = tf.constant(creatives[some])
            parts.append(signature(**tensors)[CLICK_PROBABILITY].numpy())
        return np.concatenate(parts) if parts else np.zeros(0, np.float32)


def _creative_keys(model_folder: str) -> frozenset[str]:
    path = os.path.join(model_folder, "assets", CREATIVES_ASSET)
    if not tf.io.gfile.exists(path):
        return frozenset()
    with tf.io.gfile.GFile(path, "r") as stream:
        return frozenset(line.partition("\t")[0] for line in stream)


class _Input:
    """A column on its way into the graph; each distinct text is handed to TensorFlow once, not once per row."""

    def __init__(self, name: str, column: Column, raw_type: RawType, values: pa.Array) -> None:
        self.name = name
        self._texts: tf.Tensor | None = None
        missing = MISSING[raw_type]
        if raw_type is not RawType.STRING:
            filled: npt.NDArray[Any] = values.fill_null(missing).to_numpy(zero_copy_only=False)
            self._values = filled.astype(_NUMPY_TYPES[raw_type], copy=False)
            return
        is_list = column.is_list
        encoded = (pc.list_flatten(values) if is_list else values).dictionary_encode()
        # The first text stands for what is missing.
        self._texts = tf.constant([missing.encode(), *encoded.dictionary.to_pylist()], tf.string)
        numbers = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False) + 1
        self._values = _padded(numbers, values, column.max_values) if isinstance(column, MultiValued) else numbers

    def tensor(self, rows: slice) -> tf.Tensor:
        """The input's value for some rows."""
        values = tf.constant(self._values[rows])
        return values if self._texts is None else tf.gather(self._texts, values)


def _padded(numbers: npt.NDArray[Any], lists: pa.Array, most: int) -> npt.NDArray[Any]:
    """Lists of numbers as a matrix, [rows, length of the longest, `most` at most], filled with 0."""
    owner = np.asarray(pc.list_parent_indices(lists), np.int64)
    lengths = np.bincount(owner, minlength=len(lists))
    place = np.arange(len(owner)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    kept = place < most
    matrix = np.zeros((len(lists), min(max(int(lengths.max(initial=1)), 1), most)), numbers.dtype)
    matrix[owner[kept], place[kept]] = numbers[kept]
    return matrix
