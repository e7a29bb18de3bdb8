"""Raw features to category numbers and scaled quantities, in training and serving alike, all columns of a kind at once.

Names of all vocabulary columns are looked up in one table, and quantities clipped, scaled and bucketised side by side,
so that the graph and its cost hardly grow with columns.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from adclick.models.analysis import Analysis, QuantityScale, boundaries, quantity_scale, vocabulary
from adclick.models.features import (
    DAY_SECONDS,
    EPOCH_WEEKDAY,
    MISSING_VALUE,
    InputLayout,
    fields_numbered,
    input_layout,
    quantity_columns,
    vocabulary_columns,
)
from adclick.schema.feature_table import FeatureTable
from adclick.schema.roles.inputs import CategoryField

#: The asset that holds the values of all vocabularies: a line each, the column's place, a colon and the value.
VOCABULARIES_ASSET = "vocabularies"
_PARAMETERS_FILE = "columns.json"
Floats32 = npt.NDArray[np.float32]


@dataclass(frozen=True)
class TransformParameters:
    """What the transformation knows of the data, but for the vocabularies' values.

    Attributes:
        vocabulary_sizes: By vocabulary column, the number of values that have a number of their own.
        scales: By numeric column, how it is clipped and scaled.
        boundaries: By column with quantile buckets, what separates them.
    """

    vocabulary_sizes: Mapping[str, int]
    scales: Mapping[str, QuantityScale]
    boundaries: Mapping[str, Sequence[float]]

    @property
    def limits(self) -> dict[str, tuple[float, float]]:
        """By numeric column, the least and the largest value that are told apart; what lies beyond is read as those."""
        return {name: (scale.low, scale.high) for name, scale in self.scales.items()}

    def layout(self, features: FeatureTable) -> InputLayout:
        """What the network takes of impressions that are transformed so."""
        tensors = features.tensor_names
        sizes = {tensors[name]: size for name, size in self.vocabulary_sizes.items()}
        return input_layout(features, sizes.__getitem__)


class Transformed(NamedTuple):
    """What the network takes of impressions.

    Attributes:
        categories: int32 [batch, single-valued fields], in the order of the layout.
        multiples: int32 [batch, total width of the multi-valued fields], padded with -1.
        numbers: float32 [batch, quantities].
    """

    categories: tf.Tensor
    multiples: tf.Tensor
    numbers: tf.Tensor


def write_vocabularies(analysis: Analysis, features: FeatureTable, file: str) -> dict[str, int]:
    """Writes the values of all vocabularies to one file; gives their number by column."""
    sizes = {}
    with tf.io.gfile.GFile(file, "wb") as stream:
        for place, (name, limits) in enumerate(vocabulary_columns(features).items()):
            values = vocabulary(analysis.values[name], limits.min_count, limits.max_size)
            stream.write(b"".join(b"%d:%b\n" % (place, value) for value in values))
            sizes[name] = len(values)
    return sizes


def derive_parameters(
    analysis: Analysis, features: FeatureTable, vocabulary_sizes: Mapping[str, int]
) -> TransformParameters:
    """What the transformation must know of the data that is trained on."""
    parts = {name: analysis.distributions.get(name, ()) for name in features.model_inputs}
    return TransformParameters(
        vocabulary_sizes,
        {
            name: quantity_scale(analysis.moments.get(name), parts[name], column.quantity_scaling)
            for name, column in features.model_inputs.items()
            if column.quantity_scaling is not None
        },
        {
            name: boundaries(parts[name], column.quantile_buckets)
            for name, column in features.model_inputs.items()
            if column.quantile_buckets
        },
    )


def write_parameters(parameters: TransformParameters, folder: str) -> None:
    """Writes the parameters into an existing folder."""
    with tf.io.gfile.GFile(os.path.join(folder, _PARAMETERS_FILE), "w") as stream:
        stream.write(json.dumps(asdict(parameters)))


def read_parameters(folder: str) -> TransformParameters:
    """Reads what `write_parameters` wrote."""
    with tf.io.gfile.GFile(os.path.join(folder, _PARAMETERS_FILE), "r") as stream:
        found = json.loads(stream.read())
    scales = {name: QuantityScale(**scale) for name, scale in found["scales"].items()}
    return TransformParameters(found["vocabulary_sizes"], scales, found["boundaries"])


def read_vocabularies(
    saved_model: str, features: FeatureTable, wanted: Collection[str] | None = None
) -> dict[str, list[bytes]]:
    """The values that a SavedModel knows, by vocabulary column, each in the order of its numbers.

    Args:
        saved_model: The folder of an exported model, or of a Transform graph.
        features: The feature table that it was made by.
        wanted: Vocabulary columns; all of them if None.

    Raises:
        tf.errors.NotFoundError: It has no such file.
    """
    columns = {b"%d" % place: name for place, name in enumerate(vocabulary_columns(features))}
    found: dict[str, list[bytes]] = {name: [] for name in columns.values() if wanted is None or name in wanted}
    if not found:
        return found
    with tf.io.gfile.GFile(os.path.join(saved_model, "assets", VOCABULARIES_ASSET), "rb") as stream:
        for line in stream.read().split(b"\n")[:-1]:
            place, _, value = line.partition(b":")
            if columns[place] in found:
                found[columns[place]].append(value)
    return found


class ColumnTransform(tf.Module):  # type: ignore[misc]
    """Transforms columns as requests carry them.

    Attributes:
        layout: What it gives.
    """

    def __init__(self, features: FeatureTable, parameters: TransformParameters, vocabularies: str) -> None:
        """Makes the tables.

        Args:
            features: The feature table.
            parameters: What is known of the data.
            vocabularies: The file of the vocabularies, which must last until the graph is saved.
        """
        super().__init__()
        self.layout = parameters.layout(features)
        self._features = features
        self._vocabularies = _Vocabularies.of(features, parameters)
        self._quantities = _Quantities.of(features, parameters)
        self._buckets = _Buckets.of(features, parameters)
        self.values: tf.lookup.StaticHashTable | None = None
        if parameters.vocabulary_sizes:
            whole, number = tf.lookup.TextFileIndex.WHOLE_LINE, tf.lookup.TextFileIndex.LINE_NUMBER
            reader = tf.lookup.TextFileInitializer(vocabularies, tf.string, whole, tf.int64, number)
            self.values = tf.lookup.StaticHashTable(reader, -1)

    def __call__(self, inputs: Mapping[str, tf.Tensor], rows_of: tf.Tensor | None = None) -> Transformed:
        """Transforms impressions.

        Args:
            inputs: By column, [batch]; of a multi-valued one [batch, values]. An empty text, NaN, and a number below 0
                in an int64 column stand for a missing value; the image is not looked at.
            rows_of: Something else of the impressions, [batch, …], which counts them where no column does.
        """
        batch = tf.shape(next(iter(inputs.values()), rows_of))[0]
        parts: list[tf.Tensor] = []
        fields: list[str] = []
        for found, names in self._single_fields(inputs):
            parts.append(found)
            fields += names
        categories = tf.zeros([batch, 0], tf.int32)
        if parts:
            places = [fields.index(field.name) for field in self.layout.singles]
            categories = tf.concat(parts, axis=1) if len(parts) > 1 else parts[0]
            if places != sorted(places):
                categories = tf.gather(categories, places, axis=1)
        quantities = self._quantities
        numbers = quantities.scale(_side_by_side(inputs, quantities.names)) if quantities.names else None
        return Transformed(
            tf.ensure_shape(categories, [None, len(self.layout.singles)]),
            self._multiples(inputs, batch),
            tf.zeros([batch, 0]) if numbers is None else numbers,
        )

    def _single_fields(self, inputs: Mapping[str, tf.Tensor]) -> Iterator[tuple[tf.Tensor, list[str]]]:
        """Category numbers int32 [batch, some], and the fields that they are of."""
        features = self._features
        known = [(name, field) for name, field in fields_numbered(features, {"vocabulary"}) if field.width == 1]
        if known:
            names = [name for name, _ in known]
            yield self._look_up(_side_by_side(inputs, names), names), [field.name for _, field in known]
        hashed = [(name, field) for name, field in fields_numbered(features, {"hash"}) if field.width == 1]
        for size in sorted({field.size for _, field in hashed}):
            of_size = [(name, field.name) for name, field in hashed if field.size == size]
            yield _hashed(_side_by_side(inputs, [name for name, _ in of_size]), size), [field for _, field in of_size]
        buckets = self._buckets
        if buckets.names:
            yield buckets.number(_side_by_side(inputs, buckets.names)), list(buckets.fields)
        times = [field for _, field in fields_numbered(features, {"hour", "weekday"})]
        if times:
            seconds = tf.maximum(inputs[str(features.timestamp_name)], 0)
            of_part = {
                "hour": tf.math.floormod(tf.math.floordiv(seconds, 3600), 24),
                "weekday": tf.math.floormod(tf.math.floordiv(seconds, DAY_SECONDS) + EPOCH_WEEKDAY, 7),
            }
            yield (
                tf.cast(tf.stack([of_part[field.by] for field in times], axis=1), tf.int32),
                [field.name for field in times],
            )

    def _multiples(self, inputs: Mapping[str, tf.Tensor], batch: tf.Tensor) -> tf.Tensor:
        """Category numbers of the multi-valued columns, int32 [batch, total width], padded with -1."""
        fields = fields_numbered(self._features, {"vocabulary", "hash"})
        multiples = [(name, field) for name, field in fields if field.width > 1]
        if not multiples:
            return tf.zeros([batch, 0], tf.int32)
        parts = []
        for name, field in multiples:
            texts = inputs[name][:, : field.width]
            missing = field.width - tf.shape(texts)[1]
            texts = tf.ensure_shape(tf.pad(texts, [[0, 0], [0, missing]]), [None, field.width])
            numbers = _hashed(texts, field.size) if field.by == "hash" else self._look_up(texts, [name] * field.width)
            parts.append(tf.where(tf.equal(texts, ""), -1, numbers))
        return tf.concat(parts, axis=1)

    def _look_up(self, texts: tf.Tensor, names: Sequence[str]) -> tf.Tensor:
        """Numbers texts [batch, n] by the vocabularies of n columns, int32 [batch, n]; unknown ones get the next."""
        prefixes, offsets, sizes = zip(*(self._vocabularies.places[name] for name in names), strict=True)
        assert self.values is not None
        keys = tf.raw_ops.Add(x=tf.constant([prefixes]), y=_present(texts))
        found = tf.cast(self.values.lookup(keys), tf.int32)
        return tf.where(found < 0, tf.constant([sizes], tf.int32), found - tf.constant([offsets], tf.int32))


@dataclass(frozen=True)
class _Vocabularies:
    """Where each column's values stand in the file: its prefix, its first line, and their number."""

    places: Mapping[str, tuple[bytes, int, int]]

    @staticmethod
    def of(features: FeatureTable, parameters: TransformParameters) -> _Vocabularies:
        places = {}
        first = 0
        for place, name in enumerate(vocabulary_columns(features)):
            size = parameters.vocabulary_sizes[name]
            places[name] = (b"%d:" % place, first, size)
            first += size
        return _Vocabularies(places)


@dataclass(frozen=True)
class _Quantities:
    """How the numeric columns are scaled, side by side."""

    names: tuple[str, ...]
    low: Floats32
    high: Floats32
    mean: Floats32
    deviation: Floats32
    is_log: npt.NDArray[np.bool_]

    @staticmethod
    def of(features: FeatureTable, parameters: TransformParameters) -> _Quantities:
        columns = quantity_columns(features)
        scales = [parameters.scales[name] for name in columns]

        def of_each(part: str) -> Floats32:
            return np.array([[getattr(scale, part) for scale in scales]], np.float32)

        is_log = np.array([[features.root[name].quantity_scaling == "log" for name in columns]])
        return _Quantities(
            tuple(columns), of_each("low"), of_each("high"), of_each("mean"), of_each("deviation"), is_log
        )

    def scale(self, quantities: tf.Tensor) -> tf.Tensor:
        """Scales float32 [batch, columns] to [batch, 2 x columns]: each quantity, and beside it if it is missing."""
        missing = tf.math.is_nan(quantities)
        values = tf.clip_by_value(tf.where(missing, 0.0, quantities), self.low, self.high)
        if self.is_log.any():
            logarithms = tf.sign(values) * tf.math.log1p(tf.abs(values))
            values = logarithms if self.is_log.all() else tf.where(self.is_log, logarithms, values)
        scaled = tf.where(missing, 0.0, (values - self.mean) / self.deviation)
        both = tf.stack([scaled, tf.cast(missing, tf.float32)], axis=2)
        return tf.reshape(both, [-1, 2 * len(self.names)])


@dataclass(frozen=True)
class _Buckets:
    """The quantile buckets, side by side; the last one of each column stands for missing quantities."""

    names: tuple[str, ...]
    fields: tuple[str, ...]
    boundaries: Floats32
    counts: npt.NDArray[np.int32]
    missing: npt.NDArray[np.int32]

    @staticmethod
    def of(features: FeatureTable, parameters: TransformParameters) -> _Buckets:
        fields: dict[str, CategoryField] = dict(fields_numbered(features, {"quantiles"}))
        names = tuple(parameters.boundaries)
        found = [parameters.boundaries[name] for name in names]
        padded = np.full((len(names), max(map(len, found), default=0)), np.inf, np.float32)
        for row, bounds in zip(padded, found, strict=True):
            row[: len(bounds)] = bounds
        return _Buckets(
            names,
            tuple(fields[name].name for name in names),
            padded,
            np.array([[len(bounds) for bounds in found]], np.int32),
            np.array([[fields[name].ordered for name in names]], np.int32),
        )

    def number(self, quantities: tf.Tensor) -> tf.Tensor:
        """Numbers the buckets of quantities float32 [batch, columns], int32 [batch, columns]."""
        missing = tf.math.is_nan(quantities)
        values = tf.transpose(tf.where(missing, 0.0, quantities))
        found = tf.transpose(tf.searchsorted(self.boundaries, values, side="right"))
        # Infinity lies beyond the padding, too.
        return tf.where(missing, self.missing, tf.minimum(found, self.counts))


def _side_by_side(inputs: Mapping[str, tf.Tensor], names: Sequence[str]) -> tf.Tensor:
    """Columns [batch] as one matrix [batch, columns]."""
    return tf.stack([inputs[name] for name in names], axis=1)


def _present(texts: tf.Tensor) -> tf.Tensor:
    return tf.where(tf.equal(texts, ""), MISSING_VALUE, texts)


def _hashed(texts: tf.Tensor, buckets: int) -> tf.Tensor:
    return tf.cast(tf.strings.to_hash_bucket_fast(_present(texts), buckets), tf.int32)
