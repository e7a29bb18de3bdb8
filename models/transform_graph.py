"""The artifact of Transform: the graph as TensorFlow Transform reads it, and what it is made of.

Training and serving trace the graph anew from its parameters: to load it takes longer, and it takes sparse tensors.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf
import tensorflow_transform as tft
from tensorflow_metadata.proto.v0 import schema_pb2
from tensorflow_transform.tf_metadata import dataset_metadata, metadata_io, schema_utils

from adclick.models.analysis import Analysis
from adclick.models.features import transformed_name
from adclick.models.preprocessing import (
    VOCABULARIES_ASSET,
    ColumnTransform,
    TransformParameters,
    derive_parameters,
    read_parameters,
    read_vocabularies,
    write_parameters,
    write_vocabularies,
)
from adclick.models.requests import MISSING
from adclick.schema.feature_table import FeatureTable, RawType
from adclick.storage.literal_path import literal_path


def write_transform_graph(analysis: Analysis, schema: schema_pb2.Schema, features: FeatureTable, folder: str) -> None:
    """Writes to `folder` what `tft.TFTransformOutput` reads: the graph, its asset, and both schemas."""
    metadata = dataset_metadata.DatasetMetadata(schema)
    metadata_io.write_metadata(metadata, os.path.join(folder, tft.TFTransformOutput.RAW_METADATA_DIR))
    specs = schema_utils.schema_as_feature_spec(schema).feature_spec
    with tempfile.TemporaryDirectory(prefix="adclick-transform-") as work:
        file = os.path.join(work, VOCABULARIES_ASSET)
        parameters = derive_parameters(analysis, features, write_vocabularies(analysis, features, file))
        write_parameters(parameters, folder)
        module = _TransformFunction(ColumnTransform(features, parameters, file), features, specs)
        tf.saved_model.save(module, os.path.join(folder, tft.TFTransformOutput.TRANSFORM_FN_DIR))
    metadata = dataset_metadata.DatasetMetadata.from_feature_spec(module.output_spec)
    metadata_io.write_metadata(metadata, os.path.join(folder, tft.TFTransformOutput.TRANSFORMED_METADATA_DIR))


class TransformGraph:
    """A Transform graph that `write_transform_graph` wrote by the same feature table.

    Attributes:
        features: The feature table.
        parameters: What it knows of the data.
        columns: The transformation.
    """

    def __init__(self, folder: str, features: FeatureTable) -> None:
        """Makes it anew from the folder of Transform's output."""
        self.features = features
        self._saved_model = os.path.join(literal_path(folder), tft.TFTransformOutput.TRANSFORM_FN_DIR)
        self.parameters: TransformParameters = read_parameters(folder)
        self.columns = ColumnTransform(
            features, self.parameters, os.path.join(self._saved_model, "assets", VOCABULARIES_ASSET)
        )

    def vocabularies(self) -> dict[str, list[bytes]]:
        """The values of each vocabulary column, in the order of their numbers."""
        return read_vocabularies(self._saved_model, self.features)


class _TransformFunction(tf.Module):  # type: ignore[misc]
    """What TensorFlow Transform loads: `transform_fn` takes and gives dictionaries of single features.

    Attributes:
        output_spec: What it gives.
    """

    def __init__(
        self, transform: ColumnTransform, features: FeatureTable, specs: Mapping[str, tf.io.VarLenFeature]
    ) -> None:
        super().__init__()
        self._transform = transform
        self._features = features
        layout = transform.layout
        self._singles = [transformed_name(field.name) for field in layout.singles]
        self._multiples = {transformed_name(field.name): field.width for field in layout.multiples}
        self._numbers = [transformed_name(name) for name in layout.numbers]
        self._label = transformed_name(features.tensor_names[features.label_name])
        types = {name: tf.SparseTensorSpec([None, None], spec.dtype) for name, spec in specs.items()}
        self.transform_fn = tf.function(self._apply, [types], autograph=False)

    @property
    def output_spec(self) -> dict[str, tf.io.FixedLenFeature]:
        spec = {name: tf.io.FixedLenFeature([], tf.int64) for name in (*self._singles, self._label)}
        spec |= {name: tf.io.FixedLenFeature([width], tf.int64) for name, width in self._multiples.items()}
        return spec | {name: tf.io.FixedLenFeature([], tf.float32) for name in self._numbers}

    def _apply(self, raw: Mapping[str, Any]) -> dict[str, tf.Tensor]:
        features = self._features
        inputs: dict[str, tf.Tensor] = {}
        for raw_type in RawType:
            names = [
                name
                for name, column in features.used.items()
                if name in raw and features.raw_type(name) is raw_type and not column.is_list
            ]
            if names:
                columns = _first_values([raw[name] for name in names], MISSING[raw_type])
                inputs |= dict(zip(names, tf.unstack(columns, axis=1), strict=True))
        inputs |= {
            name: tf.sparse.to_dense(raw[name], "") for name, column in features.model_inputs.items() if column.is_list
        }
        categories, multiples, numbers = self._transform(inputs)
        singles = tf.unstack(tf.cast(categories, tf.int64), axis=1) if self._singles else []
        several = tf.split(tf.cast(multiples, tf.int64), [*self._multiples.values()], axis=1) if self._multiples else []
        quantities = tf.unstack(numbers, axis=1) if self._numbers else []
        return {
            **dict(zip(self._singles, singles, strict=True)),
            **dict(zip(self._multiples, several, strict=True)),
            **dict(zip(self._numbers, quantities, strict=True)),
            self._label: tf.maximum(inputs[features.label_name], 0),
        }


def _first_values(columns: Sequence[tf.SparseTensor], default: Any) -> tf.Tensor:
    """The first value of each row of sparse columns of one type, [batch, columns]."""
    indices = tf.concat([column.indices for column in columns], axis=0)
    values = tf.concat([column.values for column in columns], axis=0)
    counts = tf.concat([tf.shape(column.values) for column in columns], axis=0)
    owner = tf.repeat(tf.range(len(columns), dtype=tf.int64), counts)
    is_first = tf.equal(indices[:, 1], 0)
    places = tf.boolean_mask(tf.stack([indices[:, 0], owner], axis=1), is_first)
    nothing = tf.fill(tf.stack([columns[0].dense_shape[0], len(columns)]), tf.constant(default, values.dtype))
    filled = tf.tensor_scatter_nd_update(nothing, places, tf.boolean_mask(values, is_first))
    return tf.ensure_shape(filled, [None, len(columns)])
