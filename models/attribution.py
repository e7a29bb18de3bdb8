"""What each column, and each pixel of the image, adds to one impression's click logit.

Integrated gradients (Sundararajan, Taly & Yan 2017, "Axiomatic attribution for deep networks") on the embedded inputs
of crosses and MLP. The effects of values, which stand in tables of single fields, pairs and triples, are no function of
embeddings: they are shared among their fields by Shapley values against the same baseline (Sundararajan & Najmi 2020,
"The many Shapley values for model explanation"), which is what integrated gradients become for inputs that are there or
not. Both are complete, and so is their sum: the contributions add up to the logit less that of the baseline.

The baseline is an impression of which nothing is known: a value never seen in each vocabulary column, the missing value
of a hashed one, no value of a multi-valued one, the mean of a quantity (and the middle one of its buckets), a Wednesday
at noon, no image.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from adclick.models.features import MISSING_VALUE, column_of_field
from adclick.models.network import ClickNetwork
from adclick.schema.feature_table import FeatureTable
from adclick.schema.roles.inputs import CategoryField

#: Points on the path from the baseline to the impression; decide how exactly contributions add up.
_STEPS = 256
_PIXEL_STEPS = 64
#: Points at a time of the path to an image; bounds memory.
_PIXEL_STEPS_AT_A_TIME = 16
#: The image that a heat map starts from: plain grey.
_GREY = 128 / 255


class Attributed(NamedTuple):
    """Explained impressions.

    Attributes:
        contributions: What each column adds to the logit, float32 [b, columns].
        logit: The click logit, float32 [b].
        baseline: The logit of the baseline, the same for all, float32 [b].
        inputs: What crosses and MLP take of the impressions, float32 [b, width].
    """

    contributions: tf.Tensor
    logit: tf.Tensor
    baseline: tf.Tensor
    inputs: tf.Tensor


class Attribution:
    """Explains the logits of one network.

    Attributes:
        columns: The columns that contributions are given for: the model's inputs, in declared order.
    """

    def __init__(self, network: ClickNetwork, features: FeatureTable) -> None:
        self._network = network
        layout = network.layout
        self.columns = tuple(features.model_inputs)
        column = column_of_field(features)
        place = {name: index for index, name in enumerate(self.columns)}

        def shares(fields: list[str]) -> npt.NDArray[np.float32]:
            """Which column each field belongs to, [fields, columns]."""
            return np.eye(len(self.columns), dtype=np.float32)[[place[column[field]] for field in fields]]

        singles = [field.name for field in layout.singles]
        multiples = [field.name for field in layout.multiples]
        dimension = network.embeddings.output_dim
        images = [] if features.image_name is None else [features.tensor_names[features.image_name]]
        self._input_columns = np.concatenate(
            [
                np.repeat(shares(singles), dimension, axis=0),
                shares([*layout.numbers]),
                np.repeat(shares(multiples), dimension, axis=0),
                np.repeat(shares(images), network.creative_width, axis=0),
            ]
        ).argmax(axis=1)
        self._multiple_columns = shares(multiples)
        self._text_columns = shares([field.name for field in layout.texts])
        baseline = [_baseline_category(field) for field in layout.singles]
        self._categories = np.array([baseline], np.int32)
        self._multiples = np.full((1, sum(field.width for field in layout.multiples)), -1, np.int32)
        taken, coefficients = _shapley(network.effect_strides)
        self._subsets = len(taken)
        # One look-up for all subsets of all tables, side by side.
        strides = network.effect_strides
        self._taken_strides = np.concatenate([strides * one for one in taken], axis=1)
        self._other_strides = np.concatenate([strides * (1 - one) for one in taken], axis=1)
        self._effect_offsets = np.tile(network.effect_offsets, self._subsets)
        self._effect_columns = (np.concatenate(coefficients) @ shares(singles)).astype(np.float32)
        self._pixel_tower: keras.Model | None = None
        if network.image_tower is not None:
            # The tower takes whole numbers, which have no gradient: past its first layer they are fractions.
            scaled = network.image_tower.layers[1]
            assert isinstance(scaled, keras.layers.Rescaling)
            self._pixel_tower = keras.Model(scaled.output, network.image_tower.output)

    def explain(
        self,
        categories: tf.Tensor,
        multiples: tf.Tensor | None,
        numbers: tf.Tensor,
        creatives: tf.Tensor | None,
        texts: tf.Tensor | None = None,
    ) -> Attributed:
        """Explains impressions, given as to `ClickNetwork.score`."""
        network = self._network
        nothing = tf.constant(self._categories)
        unknown = None if creatives is None else network.unknown_embedding()
        none = None if multiples is None else tf.constant(self._multiples)
        effects, end = network.embed_inputs(categories, multiples, numbers, creatives)
        no_effects, start = network.embed_inputs(nothing, none, tf.zeros_like(numbers[:1]), unknown)
        slopes = self._mean_slopes(start, end)
        # A matrix of inputs by columns would be the largest part of the model where there are many.
        by_input = tf.transpose((end - start) * slopes)
        by_column = tf.math.unsorted_segment_sum(by_input, self._input_columns, len(self.columns))
        contributions = tf.transpose(by_column)
        interactions = network.interactions(tf.concat([start, end], axis=0))
        baseline, logit = interactions[:1], interactions[1:]
        for index, (effect, no_effect) in enumerate(zip(effects, no_effects, strict=True)):
            contributions += (effect - no_effect)[:, None] * self._multiple_columns[index]
            baseline, logit = baseline + no_effect, logit + effect
        cells = tf.matmul(categories, self._taken_strides) + tf.matmul(nothing, self._other_strides)
        values = network.effects(cells + self._effect_offsets)[:, :, 0]
        contributions += tf.matmul(values, self._effect_columns)
        if texts is not None:
            # The effect of no text is none, and that of a text stands alone.
            contributions += tf.matmul(texts, self._text_columns)
            logit += tf.reduce_sum(texts, axis=1)
        # The first subset is none of a table's fields, the last one all of them.
        by_subset = tf.reduce_sum(tf.reshape(values, [-1, self._subsets, values.shape[1] // self._subsets]), axis=2)
        return Attributed(contributions, logit + by_subset[:, -1], baseline + by_subset[:, 0], end)

    def _mean_slopes(self, start: tf.Tensor, end: tf.Tensor) -> tf.Tensor:
        """The mean gradient of `interactions` on the way from `start` [1, width] to `end`, float32 [b, width]."""
        steps = (tf.range(_STEPS, dtype=tf.float32) + 0.5) / _STEPS
        path = start[None] + steps[:, None, None] * (end - start)[None]
        points = tf.reshape(path, [-1, path.shape[-1]])
        with tf.GradientTape() as tape:
            tape.watch(points)
            logit = self._network.interactions(points)
        return tf.reduce_mean(tf.reshape(tape.gradient(logit, points), tf.shape(path)), axis=0)

    def heat_map(self, inputs: tf.Tensor, pixels: tf.Tensor) -> tf.Tensor:
        """What each pixel adds to the logits of impressions that show an image.

        Args:
            inputs: What crosses and MLP take of the impressions, float32 [b, width].
            pixels: Their images, uint8 [b, size, size, 3].

        Returns:
            float32 [b, size, size]; each map adds up to the logit less that with a plain grey image.
        """
        others = inputs[:, : -self._network.creative_width]
        ends = tf.cast(pixels, tf.float32) / 255
        return tf.map_fn(
            lambda one: self._pixel_gradients(one[0][None], one[1]),
            (others, ends),
            fn_output_signature=tf.TensorSpec(ends.shape[1:3], tf.float32),
        )

    def _pixel_gradients(self, others: tf.Tensor, end: tf.Tensor) -> tf.Tensor:
        """Integrated gradients of one image [size, size, 3] in [0, 1], beside the other inputs [1, width]."""
        tower = self._pixel_tower
        assert tower is not None
        way = end - _GREY

        def slopes(first: tf.Tensor) -> tf.Tensor:
            steps = (tf.cast(first + tf.range(_PIXEL_STEPS_AT_A_TIME), tf.float32) + 0.5) / _PIXEL_STEPS
            points = _GREY + steps[:, None, None, None] * way[None]
            with tf.GradientTape() as tape:
                tape.watch(points)
                known = tf.ones([_PIXEL_STEPS_AT_A_TIME, 1])
                beside = tf.repeat(others, _PIXEL_STEPS_AT_A_TIME, axis=0)
                logit = self._network.interactions(tf.concat([beside, known, tower(points, training=False)], axis=1))
            return tf.reduce_sum(tape.gradient(logit, points), axis=0)

        firsts = tf.range(0, _PIXEL_STEPS, _PIXEL_STEPS_AT_A_TIME)
        total = tf.foldl(lambda total, first: total + slopes(first), firsts, tf.zeros_like(way))
        return tf.reduce_sum(way * total / _PIXEL_STEPS, axis=2)


def _baseline_category(field: CategoryField) -> int:
    if field.unknown is not None:
        return field.unknown
    if field.neutral is not None:
        return field.neutral
    return int(tf.strings.to_hash_bucket_fast(MISSING_VALUE, field.size))


def _shapley(strides: npt.NDArray[np.int32]) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float64]]:
    """How the effects of tables are shared among their fields.

    Args:
        strides: int32 [fields, tables], above 0 where a field is one of the table's.

    Returns:
        For each subset of a table's fields, by their places, which fields take the impression's value rather than the
        baseline's, 0 or 1 [subsets, fields, tables]; and what the effect of each table, so looked up, adds to each
        field's Shapley value [subsets, tables, fields].
    """
    belongs = strides > 0
    places = np.where(belongs, np.cumsum(belongs, axis=0) - 1, -1)
    most = int(belongs.sum(axis=0).max(initial=0))
    taken = np.zeros((2**most, *strides.shape), np.int32)
    coefficients = np.zeros((2**most, strides.shape[1], strides.shape[0]))
    for subset in range(2**most):
        size = subset.bit_count()
        for place in range(most):
            at_place = places == place
            inside = bool(subset >> place & 1)
            taken[subset] |= at_place & inside
            # Tables of fewer fields see each of their subsets several times, whose weights add up to the right one.
            others = size - inside
            weight = math.factorial(others) * math.factorial(most - others - 1) / math.factorial(most)
            coefficients[subset] += (weight if inside else -weight) * at_place.T
    return taken, coefficients
