"""The click network: DCN-V2 beside an MLP over embeddings, per-value effects, and a tower for the creative's image.

Wang et al., "DCN V2" (arXiv:2008.13535), in its parallel form. The image is embedded once per distinct creative of a
batch, as in Ge et al., "Image Matters" (arXiv:1711.06505).
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Mapping

import keras
import keras_rs
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from adclick.models.effects import Effects
from adclick.models.features import InputLayout
from adclick.models.settings import ImageTowerSettings, NetworkSettings, TrainingSettings
from adclick.schema.errors import ConfigError

CATEGORIES = "categories"
CELLS = "cells"
MULTIPLES = "multiples"
NUMBERS = "numbers"
CREATIVES = "creatives"
TEXTS = "texts"

#: Width of the network's log-scale pixel statistics (see `PixelStatistics`).
_STATISTICS = 14
#: Least prior deviation, in logits, with which the network goes on fitting effects.
_LEAST_DEVIATION = 0.02
#: So many values of a field halve the prior variance of their embeddings.
_FREE_VALUES = 100
#: Prior deviation of the effects of multi-valued fields.
_MULTIPLE_DEVIATION = 0.2


class PixelStatistics(keras.layers.Layer):  # type: ignore[misc]
    """Statistics that advertising studies find to move clicks: colour, brightness, contrast and clutter.

    Azimi et al., "Visual appearance of display ads and its effect on click through rate" (CIKM 2012).
    Takes images [n, size, size, 3] in [0, 1]; gives [n, 14]: mean and deviation of red, green, blue, luminance and
    saturation, the mean gradient of luminance across and down, and hue as the cosine and sine of the mean chroma.
    """

    def call(self, images: tf.Tensor) -> tf.Tensor:
        luminance = tf.reduce_sum(images * tf.constant([0.299, 0.587, 0.114]), axis=-1, keepdims=True)
        saturation = tf.reduce_max(images, axis=-1, keepdims=True) - tf.reduce_min(images, axis=-1, keepdims=True)
        channels = tf.concat([images, luminance, saturation], axis=-1)
        mean = tf.reduce_mean(channels, axis=[1, 2])
        deviation = tf.sqrt(tf.reduce_mean(tf.square(channels - mean[:, None, None, :]), axis=[1, 2]) + 1e-6)
        across = tf.reduce_mean(tf.abs(luminance[:, :, 1:] - luminance[:, :, :-1]), axis=[1, 2])
        down = tf.reduce_mean(tf.abs(luminance[:, 1:] - luminance[:, :-1]), axis=[1, 2])
        red, green, blue = tf.unstack(mean[:, :3], axis=1)
        chroma = tf.stack([red - (green + blue) / 2, (green - blue) * (math.sqrt(3) / 2)], axis=1)
        hue = chroma / (tf.norm(chroma, axis=1, keepdims=True) + 0.02)
        return tf.concat([mean, deviation, across, down, hue], axis=1)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, int]:
        return (input_shape[0], _STATISTICS)


def build_image_tower(settings: ImageTowerSettings, image_size: int, precision: str = "float32") -> keras.Model:
    """Builds the tower: images uint8 [n, image_size, image_size, 3] to embeddings float32 [n, embedding_dimension].

    `precision` is the Keras dtype policy of the convolutions that are trained here.
    """
    images = keras.Input((image_size, image_size, 3), dtype="uint8", name="images")
    pixels = keras.layers.Rescaling(1.0 / 255)(images)
    if settings.architecture == "small":
        # Halved, the statistics say as much at a quarter of the cost.
        statistics = keras.layers.LayerNormalization()(PixelStatistics()(keras.layers.AveragePooling2D(2)(pixels)))
        maps = keras.layers.Conv2D(16, 5, strides=4, padding="same", activation="relu", dtype=precision)(pixels)
        maps = keras.layers.Conv2D(24, 3, strides=2, padding="same", activation="relu", dtype=precision)(maps)
        maps = keras.layers.Conv2D(32, 3, strides=2, padding="same", activation="relu", dtype=precision)(maps)
        pooled = keras.layers.GlobalAveragePooling2D(dtype="float32")(maps)
        features = keras.layers.Concatenate()([statistics, pooled])
        features = keras.layers.Dense(32, activation="relu")(features)
    else:
        features = _backbone(settings, image_size)(keras.layers.Rescaling(255.0)(pixels))
        if len(features.shape) == 4:
            features = keras.layers.GlobalAveragePooling2D()(features)
    return keras.Model(images, keras.layers.Dense(settings.embedding_dimension)(features), name="image_tower")


def _backbone(settings: ImageTowerSettings, image_size: int) -> keras.Model:
    """A network from elsewhere; it takes pixels from 0 to 255 and gives a feature vector or feature maps."""
    name = settings.architecture
    if name.endswith((".keras", ".h5")):
        try:
            backbone = keras.saving.load_model(name, compile=False)
        except (OSError, ValueError) as error:
            raise ConfigError(f"network.image_tower.architecture: {name} is no Keras model: {error}") from None
        if tuple(backbone.input_shape[1:]) != (image_size, image_size, 3):
            raise ConfigError(
                f"network.image_tower.architecture: {name} takes images of shape {backbone.input_shape[1:]}",
                "Set ingestion.image_size to its size.",
            )
    else:
        module, _, application = name.rpartition(".")
        try:
            build = getattr(importlib.import_module(module), application)
        except (ImportError, AttributeError, ValueError) as error:
            raise ConfigError(
                f"network.image_tower.architecture: {name!r} is no Keras application: {error}",
                "Use `small`, a dotted name such as keras.applications.MobileNetV3Small, or the path of a .keras file.",
            ) from None
        backbone = build(include_top=False, weights=settings.weights, input_shape=(image_size, image_size, 3))
    backbone.trainable = settings.trainable
    return backbone


def _embedding_penalty(values: int, deviation: float, rows: int) -> float:
    """The weight of a field's squared embeddings in the mean loss.

    The more values a field has, the fewer impressions tell of each, and the more easily they are learned by heart.
    """
    return 0.5 * (1 + values / _FREE_VALUES) / (deviation**2 * rows)


class ClickNetwork(keras.Model):  # type: ignore[misc]
    """Gives the click logit of each impression, float32 [b, 1].

    Its inputs, by name (b impressions):
        categories: int32 [b, number of single-valued fields].
        multiples: int32 [b, total width of the multi-valued fields], padded with -1; if there are any.
        numbers: float32 [b, number of quantities].
        creatives: float32 [b, creative_width], each impression's creative as `embed_images` gives it; with images only.
        texts: float32 [b, number of texts], the effect of each; with texts only.
    """

    def __init__(
        self,
        layout: InputLayout,
        network: NetworkSettings,
        training: TrainingSettings,
        image_size: int,
        rows: int,
        effects: Effects,
    ) -> None:
        """Builds every weight.

        Args:
            layout: The inputs.
            network: Sizes.
            training: Priors.
            image_size: Edge of the images in pixels.
            rows: Number of training impressions; weighs the priors against the data.
            effects: The additive model that the network starts from, of the single-valued fields.
        """
        super().__init__(name="click_network")
        self.layout = layout
        precision = "mixed_bfloat16" if training.mixed_precision else "float32"
        self._embedding_penalty = np.concatenate(
            [
                np.full((field.size, 1), _embedding_penalty(field.size, training.embedding_deviation, rows), np.float32)
                for field in layout.singles
            ]
            or [np.zeros((1, 1), np.float32)]
        )
        offsets = np.cumsum([0, *(field.size for field in layout.singles)])
        self._offsets = offsets[:-1].astype(np.int32)
        small = keras.initializers.RandomNormal(stddev=0.01)
        total = max(int(offsets[-1]), 1)
        cells = np.cumsum([0, *(len(table.effects) for table in effects.tables)])
        self.effect_offsets = cells[:-1].astype(np.int32)
        self.effect_strides = np.zeros((len(layout.singles), len(effects.tables)), np.int32)
        for column, table in enumerate(effects.tables):
            self.effect_strides[list(table.fields), column] = table.strides
        start = np.append(effects.values, 0.0)
        deviation = np.concatenate([table.deviations for table in effects.tables] + [[1.0]])
        # The penalty of a table without effects is capped, lest it drown the loss.
        means = [np.zeros(len(table.effects)) if table.means is None else table.means for table in effects.tables]
        self._effect_start = start[:, None].astype(np.float32)
        self._effect_mean = np.concatenate([*means, [0.0]])[:, None].astype(np.float32)
        self._effect_penalty = (0.5 / (np.maximum(deviation, _LEAST_DEVIATION) ** 2 * rows))[:, None].astype(np.float32)
        self.effects = keras.layers.Embedding(len(start), 1, embeddings_initializer="zeros", name="effects")
        self.embeddings = keras.layers.Embedding(
            total, network.embedding_dimension, embeddings_initializer=small, name="embeddings"
        )
        self.effects.build()
        self.embeddings.build()
        self.effects.embeddings.assign(self._effect_start)
        width = len(layout.singles) * network.embedding_dimension + len(layout.numbers)
        self._multiple_penalty = 0.5 / (_MULTIPLE_DEVIATION**2 * rows)
        self._several_penalties = [
            _embedding_penalty(field.size, training.embedding_deviation, rows) for field in layout.multiples
        ]
        self.multiple_effects: list[keras.layers.Embedding] = []
        self.multiple_embeddings: list[keras.layers.Embedding] = []
        for field in layout.multiples:
            effect = keras.layers.Embedding(field.size, 1, embeddings_initializer="zeros", name=f"effects_{field.name}")
            embedding = keras.layers.Embedding(
                field.size, network.embedding_dimension, embeddings_initializer=small, name=f"embeddings_{field.name}"
            )
            effect.build()
            embedding.build()
            self.multiple_effects.append(effect)
            self.multiple_embeddings.append(embedding)
            width += network.embedding_dimension
        #: By text, the effects of its words, pairs and parts of words; `models.text_effects` estimates them.
        self.text_effects = [
            self.add_weight(
                shape=(field.buckets,), initializer="zeros", trainable=False, name=f"text_effects_{field.name}"
            )
            for field in layout.texts
        ]
        self.image_tower: keras.Model | None = None
        self.creative_width = 0
        if layout.has_image:
            self.image_tower = build_image_tower(network.image_tower, image_size, precision)
            self.creative_width = network.image_tower.embedding_dimension + 1
            self.unknown_creative = self.add_weight(
                shape=(1, self.creative_width - 1), initializer="zeros", name="unknown_creative"
            )
            self.creative_effect = self.add_weight(
                shape=(self.creative_width, 1), initializer="zeros", name="creative_effect"
            )
            width += self.creative_width
        self.crosses = [
            keras_rs.layers.FeatureCross(
                projection_dim=min(network.cross_projection, width), name=f"cross_{index}", dtype=precision
            )
            for index in range(network.cross_layers)
        ]
        for cross in self.crosses:
            # Its layers come into being only when it is called.
            cross(tf.zeros([1, width]), tf.zeros([1, width]))
        self.hidden = keras.Sequential(name="hidden")
        for units in network.hidden_units:
            self.hidden.add(keras.layers.Dense(units, activation="relu", dtype=precision))
            self.hidden.add(keras.layers.Dropout(network.dropout, dtype=precision))
        if network.hidden_units:
            self.hidden.build((None, width))
        top = width + (network.hidden_units[-1] if network.hidden_units else width)
        self.linear = keras.layers.Dense(
            1,
            kernel_initializer=keras.initializers.RandomNormal(stddev=0.01),
            bias_initializer=keras.initializers.Constant(effects.intercept),
            name="logit",
        )
        self.linear.build((None, top))
        self.built = True

    def embed_images(self, images: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Embeds creatives: uint8 [n, size, size, 3] to float32 [n, creative_width]; the first component is 1."""
        assert self.image_tower is not None
        embedded = self.image_tower(images, training=training)
        return tf.concat([tf.ones([tf.shape(embedded)[0], 1]), embedded], axis=1)

    def unknown_embedding(self) -> tf.Tensor:
        """The learned embedding of a missing creative, float32 [1, creative_width]; its first component is 0."""
        return tf.concat([tf.zeros([1, 1]), tf.convert_to_tensor(self.unknown_creative)], axis=1)

    def score(
        self,
        categories: tf.Tensor,
        multiples: tf.Tensor | None,
        numbers: tf.Tensor,
        creatives: tf.Tensor | None,
        training: bool = False,
        texts: tf.Tensor | None = None,
        cells: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """The click logit, float32 [b], given each impression's creative [b, creative_width] and texts' effects.

        `cells` is what `effect_cells` gives, where that is at hand.
        """
        logit = tf.reduce_sum(self.effects(self.effect_cells(categories) if cells is None else cells), axis=[1, 2])
        effects, inputs = self.embed_inputs(categories, multiples, numbers, creatives)
        for effect in effects:
            logit += effect
        if texts is not None:
            logit += tf.reduce_sum(texts, axis=1)
        return logit + self.interactions(inputs, training)

    def effect_cells(self, categories: tf.Tensor) -> tf.Tensor:
        """Where the effects of an impression stand in `effects`, int32 [b, number of tables]."""
        return tf.matmul(categories, self.effect_strides) + self.effect_offsets

    def embed_inputs(
        self, categories: tf.Tensor, multiples: tf.Tensor | None, numbers: tf.Tensor, creatives: tf.Tensor | None
    ) -> tuple[list[tf.Tensor], tf.Tensor]:
        """What the network sees of impressions.

        Returns:
            The effect of each multi-valued field, float32 [b]; and what crosses and MLP take, float32 [b, width]: the
            embeddings of the single-valued fields, the quantities, the mean embeddings of the multi-valued fields, the
            creative.
        """
        batch = tf.shape(categories)[0]
        rows = categories + self._offsets
        singles = len(self.layout.singles)
        embedded = self.embeddings(rows)
        parts = [tf.reshape(embedded, [batch, singles * embedded.shape[-1]]), numbers]
        effects = []
        start = 0
        for field, effect, embedding in zip(
            self.layout.multiples, self.multiple_effects, self.multiple_embeddings, strict=True
        ):
            assert multiples is not None
            values = multiples[:, start : start + field.width]
            start += field.width
            present = tf.cast(values >= 0, tf.float32)[:, :, None]
            share = present / tf.maximum(tf.reduce_sum(present, axis=1, keepdims=True), 1.0)
            values = tf.maximum(values, 0)
            effects.append(tf.reduce_sum(effect(values) * share, axis=[1, 2]))
            parts.append(tf.reduce_sum(embedding(values) * share, axis=1))
        if creatives is not None:
            parts.append(creatives)
        inputs = tf.concat(parts, axis=1)
        return effects, tf.ensure_shape(inputs, [None, self._width()])

    def interactions(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        """What crosses and MLP add to the logit, float32 [b]; takes what `embed_inputs` gives."""
        crossed = inputs
        for cross in self.crosses:
            crossed = cross(inputs, crossed)
        hidden = self.hidden(inputs, training=training) if self.hidden.layers else inputs
        both = [tf.cast(crossed, tf.float32), tf.cast(hidden, tf.float32)]
        logit = self.linear(tf.concat(both, axis=1))
        if self.image_tower is not None:
            logit += tf.matmul(inputs[:, -self.creative_width :], self.creative_effect)
        return logit[:, 0]

    def weights_of_effects(self) -> list[npt.NDArray[np.generic]]:
        """The values of all variables, but that crosses and MLP, which are noise at random weights, add nothing."""
        silent = self.linear.kernel
        return [variable.numpy() * (0 if variable is silent else 1) for variable in self.variables]

    def set_effects(self, effects: npt.NDArray[np.float64], intercept: float = 0.0) -> None:
        """Replaces the effects of single-valued fields, in the order of their tables, and adds to the intercept."""
        self.effects.embeddings.assign(np.append(effects, 0.0)[:, None].astype(np.float32))
        self.linear.bias.assign_add([intercept])

    def set_image_effect(self, kernel: npt.NDArray[np.float32], of_any: float) -> None:
        """Has the logit take `kernel` times the tower's embedding of a creative, and `of_any` for having one at all."""
        self.creative_effect.assign(np.append(np.float32(of_any), kernel)[:, None])

    def penalty(self) -> tf.Tensor:
        """What the priors of effects and embeddings add to the mean log loss, a scalar."""

        def squares(layer: keras.layers.Embedding) -> tf.Tensor:
            return tf.reduce_sum(tf.square(layer.embeddings))

        total = tf.reduce_sum(self._effect_penalty * tf.square(self.effects.embeddings - self._effect_mean))
        total += tf.reduce_sum(self._embedding_penalty * tf.square(self.embeddings.embeddings))
        for effect, embedding, penalty in zip(
            self.multiple_effects, self.multiple_embeddings, self._several_penalties, strict=True
        ):
            total += self._multiple_penalty * squares(effect) + penalty * squares(embedding)
        return total

    def _width(self) -> int:
        fields = len(self.layout.singles) + len(self.layout.multiples)
        return fields * self.embeddings.output_dim + len(self.layout.numbers) + self.creative_width

    def call(self, inputs: Mapping[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        creatives = inputs.get(CREATIVES)
        if training:
            self.add_loss(self.penalty())
        logit = self.score(
            inputs[CATEGORIES], inputs.get(MULTIPLES), inputs[NUMBERS], creatives, training, inputs.get(TEXTS)
        )
        return logit[:, None]
